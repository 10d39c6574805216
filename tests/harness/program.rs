use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Where the programs under test are: `tests/run` builds them and sets `BATOFF_BIN_DIR`.
///
/// # Panics
/// When they have not been built.
pub fn binary(name: &str) -> PathBuf {
    let path = programs().join(name);
    assert!(
        path.exists(),
        "{} is not built; run ./tests/run, or cargo build --workspace --bins",
        path.display()
    );
    path
}

/// The folder of the programs under test.
pub fn programs() -> PathBuf {
    let folder = std::env::var_os("BATOFF_BIN_DIR").map(PathBuf::from).unwrap_or_else(|| {
        // Started by hand: the test itself lies in <target>/<profile>/deps.
        let own = std::env::current_exe().expect("the test knows its own path");
        own.ancestors().nth(2).expect("the test lies in target/<profile>/deps").to_path_buf()
    });
    // As /proc tells it of a process.
    folder.canonicalize().unwrap_or(folder)
}

/// Where files are kept in memory, on Linux.
const MEMORY: &str = "/dev/shm";

/// Bytes that have to be free there: the largest stories' caches need a few hundred megabytes.
const ROOM: u64 = 2 << 30;

/// A temporary directory that goes when the value is dropped, in memory where that has room: programs under test flush
/// their files hundreds of times in a story, and a busy disk takes a tenth of a second for each. Whoever sets `TMPDIR`
/// chooses the place.
pub fn scratch() -> tempfile::TempDir {
    let has_room = |at: &rustix::fs::StatVfs| at.f_bavail.saturating_mul(at.f_frsize) >= ROOM;
    let in_memory =
        std::env::var_os("TMPDIR").is_none() && rustix::fs::statvfs(MEMORY).as_ref().is_ok_and(has_room);
    let made = in_memory.then(|| prefixed().tempdir_in(MEMORY).ok()).flatten();
    made.unwrap_or_else(scratch_on_disk)
}

/// The same in the system's own temporary directory, for what is to meet a real disk.
pub fn scratch_on_disk() -> tempfile::TempDir {
    prefixed().tempdir().expect("a temporary directory")
}

fn prefixed() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("batoff-test-");
    builder
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

/// Sends a signal to exactly one process.
pub fn kill(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, signal).unwrap_or_else(|error| panic!("signal {signal:?} to {pid:?}: {error}"));
}

/// How one of our programs is started.
#[derive(Clone, Debug)]
pub struct Launch {
    name: String,
    args: Vec<String>,
    dir: PathBuf,
    environment: Vec<(String, String)>,
    namespace: Option<String>,
    /// Where the program lies, when it is not one of those under test.
    folder: Option<PathBuf>,
    /// Not one of ours: found by its name.
    is_of_the_system: bool,
}

impl Launch {
    /// The program `name` with these arguments, in `dir`.
    pub fn new(name: &str, args: &[&str], dir: &Path) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self {
            name: name.to_owned(),
            args,
            dir: dir.to_owned(),
            environment: Vec::new(),
            namespace: None,
            folder: None,
            is_of_the_system: false,
        }
    }

    /// A program of the system's.
    pub fn system(name: &str, args: &[&str], dir: &Path) -> Self {
        Self { is_of_the_system: true, ..Self::new(name, args, dir) }
    }

    /// With further variables in its environment.
    #[must_use]
    pub fn with(mut self, environment: &[(String, String)]) -> Self {
        self.environment.extend_from_slice(environment);
        self
    }

    /// Further arguments, behind the others.
    pub fn add_arguments(&mut self, args: &[&str]) {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
    }

    /// In a network namespace of that name.
    #[must_use]
    pub fn inside(mut self, namespace: Option<&str>) -> Self {
        self.namespace = namespace.map(str::to_owned);
        self
    }

    /// From this folder of programs, such as those of another release; from that of the programs under test without one.
    #[must_use]
    pub fn of(mut self, folder: Option<&Path>) -> Self {
        self.folder = folder.map(Path::to_owned);
        self
    }

    fn command(&self) -> Command {
        let program = match &self.folder {
            _ if self.is_of_the_system => PathBuf::from(&self.name),
            Some(folder) => folder.join(&self.name),
            None => binary(&self.name),
        };
        let mut command = match &self.namespace {
            None => Command::new(program),
            Some(namespace) => {
                // `ip` turns into the program: the pid is the program's.
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
        };
        command.args(&self.args).current_dir(&self.dir);
        // What the developer has set for a real system must not leak into a test.
        for (key, _) in
            std::env::vars().filter(|(key, _)| key.starts_with("BATOFF_") && key != "BATOFF_BIN_DIR")
        {
            command.env_remove(key);
        }
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Starts it with its output piped.
    pub fn start(&self) -> Program {
        self.spawn(Stdio::null(), Stdio::piped())
    }

    /// Starts it with its input and standard output piped, its log going to a file.
    pub fn start_logging_to(&self, log: &Path) -> Program {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log");
        self.spawn(Stdio::piped(), log.into())
    }

    fn spawn(&self, stdin: Stdio, stderr: Stdio) -> Program {
        let child = self.command().stdin(stdin).stdout(Stdio::piped()).stderr(stderr).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{} does not start: {error}", self.name));
        let lifeline = child.stdin.take();
        Program { child, name: self.name.clone(), _lifeline: lifeline }
    }

    /// Runs it to its end.
    pub fn run(&self) -> Output {
        self.command().stdin(Stdio::null()).output().expect("the program runs")
    }
}

/// A running program; killed when dropped.
pub struct Program {
    child: Child,
    name: String,
    /// Our end of its standard input; closes when this process ends, however that happens.
    _lifeline: Option<ChildStdin>,
}

impl Program {
    /// Starts a program of ours, with its output piped.
    pub fn start(name: &str, args: &[&str], dir: &Path) -> Self {
        Launch::new(name, args, dir).start()
    }

    /// Runs a program of ours to its end.
    pub fn run(name: &str, args: &[&str], dir: &Path) -> Output {
        Launch::new(name, args, dir).run()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Takes the standard output.
    pub fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("the output is taken once")
    }

    /// Takes the standard error.
    pub fn stderr(&mut self) -> ChildStderr {
        self.child.stderr.take().expect("the output is taken once")
    }

    /// Whether it still runs; its exit code otherwise.
    pub fn exit_code(&mut self) -> Option<i32> {
        let status = self.child.try_wait().expect("the child can be waited for")?;
        Some(status.code().unwrap_or(-1))
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(&mut self) -> i32 {
        kill(self.pid(), Signal::TERM);
        self.child.wait().expect("the child can be waited for").code().unwrap_or(-1)
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("the child can be killed");
        self.child.wait().expect("the child can be waited for");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.exit_code().is_none() {
            // `dev` ends its children when it is asked to; killed, they would notice only by their closed input.
            kill(self.pid(), Signal::TERM);
            // A frozen one hears nothing until it goes on.
            kill(self.pid(), Signal::CONT);
            for _ in 0..100 {
                if self.exit_code().is_some() {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            eprintln!("{} did not end within 10 s of SIGTERM; killing it", self.name);
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
