//! The examples of `deploy/examples/sign`, each run by its interpreter against a real control plane: what customers copy
//! works, and says why when it is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use batoff_tests::{Customer, Dev, DevOptions, binary, scratch};
use serde_json::Value;

/// The words before the arguments, of each example; the console shows these files.
const EXAMPLES: [(&str, &[&str]); 7] = [
    ("purge.sh", &["bash"]),
    ("purge.py", &["python3"]),
    ("purge.mjs", &["node"]),
    ("purge.go", &["go", "run"]),
    ("purge.php", &["php"]),
    ("batoff.sh", &["sh"]),
    ("purge.rs", &[]),
];

/// Neither the path of the URL nor the tag is ASCII: what is signed is bytes, not characters.
const PATH: &str = "/каталог/ёж.html?цвет=\"синий\"&q=%D0%96";
const TAG: &str = "категория:обувь";

/// A customer who has read the documentation.
struct Shop {
    dev: Dev,
    customer: Customer,
    home: tempfile::TempDir,
}

impl Shop {
    fn open() -> Self {
        let dev = Dev::start(DevOptions { pops: 1, ..DevOptions::default() });
        let operator = |args: &[&str]| -> Value {
            let mut command = Command::new(binary("batoff"));
            command.args(args).args(["--output", "json"]).env_clear().env("BATOFF_ADMIN", &dev.line.admin);
            let output = command.env("BATOFF_ADMIN_TOKEN", &dev.line.admin_token).output().unwrap();
            assert!(output.status.success(), "{args:?}: {}", said(&output));
            serde_json::from_slice(&output.stdout).unwrap()
        };
        operator(&["sites", "create", "shop", "--host", "www.shop.test"]);
        let issued = operator(&["tokens", "issue", "shop", "--label", "deploy"]);
        let part = |name: &str| issued[name].as_str().unwrap().to_owned();
        let customer = Customer::new(&dev.line.api, "shop", &part("token"), &part("secret"));
        Self { dev, customer, home: scratch() }
    }

    /// What an example says when it is run.
    fn run(&self, file: &str, secret: &str, url: &str, key: &str) -> Output {
        let (_, words) = EXAMPLES.into_iter().find(|(name, _)| *name == file).unwrap();
        let path = folder().join(file);
        let mut command = match words.split_first() {
            Some((interpreter, words)) => {
                let mut command = Command::new(interpreter);
                command.args(words).arg(&path);
                command
            }
            None => Command::new(binary("examples/purge")),
        };
        let found = format!("{}:{}", binary("batoff").parent().unwrap().display(), env("PATH"));
        command.args([url, TAG]).env_clear().env("PATH", found).env("LANG", "C.UTF-8").env("BATOFF_KEY", key);
        command.env("BATOFF_API", &self.dev.line.api).env("BATOFF_SITE", "shop").env("BATOFF_SECRET", secret);
        command.env("BATOFF_TOKEN", &self.customer.token).env("HOME", self.home.path());
        // What has been compiled of Go's library is kept between runs; nothing is fetched.
        let compiled =
            std::env::var("GOCACHE").unwrap_or_else(|_| format!("{}/.cache/go-build", env("HOME")));
        command.env("GOCACHE", compiled).env("GO111MODULE", "off").env("CGO_ENABLED", "0");
        command.stdin(Stdio::null()).output().unwrap_or_else(|error| {
            panic!("{file}: {:?} does not start: {error}; ./tests/run installs it", command.get_program())
        })
    }
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/sign")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The task that the example has named; the table of the command line tool has it in its second column.
fn task_of(output: &Output) -> String {
    let text = said(output);
    let is_id =
        |word: &&str| word.len() == 26 && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    text.split_whitespace().find(is_id).unwrap_or_else(|| panic!("no task in {text}")).to_owned()
}

#[tokio::test]
async fn each_example_purges_what_it_is_told_and_the_same_key_purges_once() {
    let shop = Shop::open();
    let url = format!("https://www.shop.test{PATH}");
    for (file, _) in EXAMPLES {
        let output = shop.run(file, &shop.customer.secret, &url, file);
        assert!(output.status.success(), "{file}: {}", said(&output));
        assert!(said(&output).contains("completed"), "{file}: {}", said(&output));
        let task = task_of(&output);
        let seen = shop.customer.get(&format!("/v1/sites/shop/purge/{task}?include=items")).await.json;
        assert_eq!(seen["state"], "completed", "{file}: {seen}");
        let purged = seen["items"].as_array().unwrap().iter().map(|item| item["value"].as_str().unwrap());
        let escaped = "https://www.shop.test/%D0%BA%D0%B0%D1%82%D0%B0%D0%BB%D0%BE%D0%B3/%D1%91%D0%B6.html?\
            %D1%86%D0%B2%D0%B5%D1%82=%22%D1%81%D0%B8%D0%BD%D0%B8%D0%B9%22&q=%D0%96";
        assert_eq!(purged.collect::<Vec<_>>(), [escaped, TAG], "{file}");

        let again = shop.run(file, &shop.customer.secret, &url, file);
        assert_eq!(task_of(&again), task, "{file}: with the same key it is the same purge");
    }
    let all = shop.customer.get("/v1/sites/shop/purges").await.json;
    assert_eq!(all["purges"].as_array().unwrap().len(), EXAMPLES.len());
}

#[tokio::test]
async fn each_example_says_why_it_is_refused_and_fails() {
    let shop = Shop::open();
    for (file, _) in EXAMPLES {
        let output = shop.run(file, "bts_live_wrong", "https://www.shop.test/", "wrong");
        assert_eq!(output.status.code(), Some(1), "{file}: {}", said(&output));
        // Title, status, code, and the detail, which names the lines that the signature was checked against.
        let words = "Signature or timestamp was rejected (401 bad_signature)";
        assert!(said(&output).contains(words), "{file}: {}", said(&output));
        assert!(said(&output).contains("these 5 lines"), "{file}: {}", said(&output));

        let output = shop.run(file, &shop.customer.secret, "https://elsewhere.test/", "elsewhere");
        assert_eq!(output.status.code(), Some(1), "{file}: {}", said(&output));
        assert!(said(&output).contains("host elsewhere.test is not a hostname"), "{file}: {}", said(&output));
    }
    let all = shop.customer.get("/v1/sites/shop/purges").await.json;
    assert_eq!(all["purges"].as_array().unwrap().len(), 0);
}

#[test]
fn the_test_runs_every_file_of_the_folder() {
    let mut files: Vec<_> =
        std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort_unstable();
    let mut known: Vec<_> = EXAMPLES.iter().map(|(file, _)| *file).collect();
    known.sort_unstable();
    assert_eq!(files, known);
}
