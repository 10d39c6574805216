//! The secrets of a data folder: made once, read at each start; and the console's first operator, who is made from it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use batoff_log::{Key, Kv, StoreError};
use zeroize::Zeroizing;

use crate::accounts::{Accounts, one_time_password};
use crate::catalog::{ADMIN_PREFIX, MasterKey, generate, hash, well_formed};
use crate::store::rows;

/// The file with the key that signing secrets are derived from, in the data folder.
pub const MASTER_KEY_FILE: &str = "master.key";

/// The file with the operator's token, in the data folder.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";

/// The file with the one-time password of the console's first operator, in the data folder. The first start makes the
/// account and removes the file.
pub const CONSOLE_PASSWORD_FILE: &str = "console.password";

/// The name of that operator.
pub const FIRST_OPERATOR: &str = "admin";

/// A data folder that cannot be made or read. The text names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Somebody's secrets are there already.
    #[error("{} exists already; secrets are never overwritten. Choose another --data-dir, or remove the file", .0.display())]
    Exists(PathBuf),
    /// Not there.
    #[error("{} is not there; run: batoff-control init --data-dir {}", .file.display(), .dir.display())]
    Missing {
        /// Which file.
        file: PathBuf,
        /// The data folder.
        dir: PathBuf,
    },
    /// Its content is not what `init` writes.
    #[error("{} does not hold {what}; restore it from a backup", .file.display())]
    Unusable {
        /// Which file.
        file: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// It is a master key, but not the one that this store's tokens were issued with.
    #[error(
        "{} is not the key that the tokens in this store were issued with (it has the fingerprint {found}, theirs has \
         {expected}): no signature would be accepted. Put the right key back from a backup; if it is lost, start once \
         with --new-master-key, and issue every token anew",
        .file.display()
    )]
    OtherKey {
        /// The file.
        file: PathBuf,
        /// What the store remembers.
        expected: String,
        /// What the file holds.
        found: String,
    },
    /// Others may read it.
    #[error("{} may be read by others than its owner; run: chmod 600 {}", .0.display(), .0.display())]
    Open(PathBuf),
    /// The file system refuses.
    #[error("{}: {error}; check that the folder can be written by this user", .file.display())]
    Io {
        /// Which file or folder.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The secrets of a data folder.
pub struct Secrets {
    /// Signing secrets are derived from it.
    pub master: MasterKey,
    /// SHA-256 of the operator's token.
    pub admin_token: [u8; 32],
}

/// Secrets that are there already, in files that somebody else keeps, such as an orchestrator's. What is not given is made.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// A file with a master key.
    pub master_key: Option<PathBuf>,
    /// A file with a token for the operator.
    pub admin_token: Option<PathBuf>,
}

impl Given {
    fn master_key(&self) -> Result<Zeroizing<String>, InitError> {
        let Some(file) = &self.master_key else { return Ok(MasterKey::generate().to_hex()) };
        let text = read(file)?;
        let key = MasterKey::from_hex(&text);
        let key = key.ok_or(InitError::Unusable { file: file.clone(), what: "64 hex digits" })?;
        Ok(key.to_hex())
    }

    fn admin_token(&self) -> Result<Zeroizing<String>, InitError> {
        let Some(file) = &self.admin_token else { return Ok(generate(ADMIN_PREFIX)) };
        let token = Zeroizing::new(read(file)?.trim().to_owned());
        if !well_formed(ADMIN_PREFIX, &token) {
            return Err(InitError::Unusable { file: file.clone(), what: A_TOKEN });
        }
        Ok(token)
    }
}

/// What a file with the operator's token has to hold.
const A_TOKEN: &str = "a token that begins with bto_admin_";

/// Makes a data folder (mode 0700) with a new master key, a new token for the operator and a one-time password for the
/// console (mode 0600), and returns that password. Overwrites nothing.
///
/// # Errors
/// Secrets are there already, or the file system refuses.
pub fn init(dir: &Path) -> Result<Zeroizing<String>, InitError> {
    init_with(dir, &Given::default())
}

/// The same, with secrets that are there already. They are copied: the data folder's own are private to its user, and
/// nobody changes them under a store whose tokens they have signed.
///
/// # Errors
/// The same, or what is given is not what `init` would make.
pub fn init_with(dir: &Path, given: &Given) -> Result<Zeroizing<String>, InitError> {
    let io = |file: &Path| {
        let file = file.to_owned();
        move |error| InitError::Io { file, error }
    };
    let (master_key, admin_token) = (given.master_key()?, given.admin_token()?);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io(dir))?;
    let [key, token, password] =
        [MASTER_KEY_FILE, ADMIN_TOKEN_FILE, CONSOLE_PASSWORD_FILE].map(|name| dir.join(name));
    for file in [&key, &token, &password] {
        if file.try_exists().map_err(io(file))? {
            return Err(InitError::Exists(file.clone()));
        }
    }
    write_new(&key, &master_key)?;
    write_new(&token, &admin_token)?;
    let one_time = one_time_password();
    write_new(&password, &one_time)?;
    // The names are durable when the folder is.
    fs::File::open(dir).and_then(|folder| folder.sync_all()).map_err(io(dir))?;
    Ok(one_time)
}

/// Whether a data folder has its secrets. One that was left half made has not: [`init`] names what is in its way.
pub fn is_made(dir: &Path) -> bool {
    [MASTER_KEY_FILE, ADMIN_TOKEN_FILE].iter().all(|name| dir.join(name).exists())
}

/// Makes the console's first operator with the password that [`init`] left, if there is no account yet, and removes the
/// file: from then on the password is known to whoever read it. Where there is neither, whoever has the operator's token
/// adds one (`batoff users add`).
pub async fn first_operator(dir: &Path, accounts: &Accounts) -> Result<Result<(), InitError>, StoreError> {
    let file = dir.join(CONSOLE_PASSWORD_FILE);
    let nobody = accounts.list().await?.is_empty();
    let password = match read_private(&file, dir) {
        Ok(password) => password,
        Err(InitError::Missing { .. }) => {
            if nobody {
                tracing::info!(
                    "nobody can sign in to the console yet; add an operator with `batoff users add`"
                );
            }
            return Ok(Ok(()));
        }
        Err(error) => return Ok(Err(error)),
    };
    if nobody {
        if password.trim().is_empty() {
            return Ok(Err(InitError::Unusable { file, what: "a password" }));
        }
        accounts.add_first_operator(FIRST_OPERATOR, password.trim()).await?;
        tracing::info!(
            user = FIRST_OPERATOR,
            "the console's first operator is there, with the password of init"
        );
    }
    if let Err(error) = fs::remove_file(&file) {
        return Ok(Err(InitError::Io { file, error }));
    }
    Ok(Ok(()))
}

/// Reads what [`init`] wrote.
pub fn load(dir: &Path) -> Result<Secrets, InitError> {
    close_to_others(dir);
    let key = dir.join(MASTER_KEY_FILE);
    let master = MasterKey::from_hex(&read_private(&key, dir)?)
        .ok_or(InitError::Unusable { file: key, what: "64 hex digits" })?;
    let file = dir.join(ADMIN_TOKEN_FILE);
    let token = read_private(&file, dir)?;
    let token = token.trim();
    if !well_formed(ADMIN_PREFIX, token) {
        return Err(InitError::Unusable { file, what: A_TOKEN });
    }
    Ok(Secrets { master, admin_token: hash(token) })
}

/// Where the store keeps the fingerprint of its master key.
const FINGERPRINT_KEY: &str = "secrets/master_key_fingerprint";

/// Refuses a master key that is not the store's. The first start with a store that knows none takes what is there.
pub async fn recognise(
    dir: &Path,
    master: &MasterKey,
    kv: &dyn Kv,
) -> Result<Result<(), InitError>, StoreError> {
    let (key, found) = (Key::from(FINGERPRINT_KEY), master.fingerprint());
    // Another control plane may start at this moment, with another key.
    let known = rows::put_first(kv, &key, found.clone().into_bytes()).await?;
    let expected = String::from_utf8_lossy(&known).into_owned();
    if expected == found {
        return Ok(Ok(()));
    }
    Ok(Err(InitError::OtherKey { file: dir.join(MASTER_KEY_FILE), expected, found }))
}

/// The fingerprint of the master key that the store's tokens are issued with, if it knows one.
pub(crate) async fn known_fingerprint(kv: &dyn Kv) -> Result<Option<String>, StoreError> {
    let read = |value: &[u8]| Ok(String::from_utf8_lossy(value).into_owned());
    rows::get(kv, &Key::from(FINGERPRINT_KEY), read).await
}

/// Forgets which master key the store's tokens were issued with, so that the next start takes the one that is there.
pub async fn forget_master_key(kv: &dyn Kv) -> Result<(), StoreError> {
    rows::delete(kv, &Key::from(FINGERPRINT_KEY)).await
}

fn write_new(file: &Path, text: &str) -> Result<(), InitError> {
    let write = || {
        let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        opened.write_all(text.as_bytes())?;
        opened.write_all(b"\n")?;
        opened.sync_all()
    };
    write().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => InitError::Exists(file.to_owned()),
        _ => InitError::Io { file: file.to_owned(), error },
    })
}

/// Takes everybody else's rights to the data folder, as somebody's `mkdir` or another umask left them: the names of
/// customers' hosts and of their purges stand in it. One that is not there is found missing next.
fn close_to_others(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;

    let Ok(metadata) = fs::metadata(dir) else { return };
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return;
    }
    match fs::set_permissions(dir, fs::Permissions::from_mode(mode & 0o700)) {
        Ok(()) => tracing::info!(dir = %dir.display(), "the data folder was open to others until now"),
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "the data folder is open to others and cannot be closed");
        }
    }
}

fn read(file: &Path) -> Result<Zeroizing<String>, InitError> {
    let read = fs::read_to_string(file).map(Zeroizing::new);
    read.map_err(|error| InitError::Io { file: file.to_owned(), error })
}

fn read_private(file: &Path, dir: &Path) -> Result<Zeroizing<String>, InitError> {
    use std::os::unix::fs::PermissionsExt;

    let io = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => InitError::Missing { file: file.to_owned(), dir: dir.to_owned() },
        _ => InitError::Io { file: file.to_owned(), error },
    };
    if fs::metadata(file).map_err(io)?.permissions().mode() & 0o077 != 0 {
        return Err(InitError::Open(file.to_owned()));
    }
    fs::read_to_string(file).map(Zeroizing::new).map_err(io)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn init_makes_private_files_once_and_never_overwrites_them() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("data");
        assert!(matches!(load(&dir), Err(InitError::Missing { .. })));
        let password = init(&dir).unwrap();
        assert_eq!(fs::read_to_string(dir.join(CONSOLE_PASSWORD_FILE)).unwrap().trim(), password.as_str());
        let before = fs::read(dir.join(MASTER_KEY_FILE)).unwrap();
        for file in [MASTER_KEY_FILE, ADMIN_TOKEN_FILE, CONSOLE_PASSWORD_FILE] {
            assert_eq!(fs::metadata(dir.join(file)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let token = fs::read_to_string(dir.join(ADMIN_TOKEN_FILE)).unwrap();
        assert_eq!(load(&dir).unwrap().admin_token, hash(token.trim()));
        assert!(matches!(init(&dir), Err(InitError::Exists(_))));
        assert_eq!(fs::read(dir.join(MASTER_KEY_FILE)).unwrap(), before);
    }

    #[test]
    fn secrets_that_are_there_already_are_taken_and_those_that_are_none_refused() {
        let temp = tempfile::tempdir().unwrap();
        let [first, second, third] = ["first", "second", "third"].map(|name| temp.path().join(name));
        init(&first).unwrap();
        let of = |name: &str| Some(first.join(name));
        let given = Given { master_key: of(MASTER_KEY_FILE), admin_token: of(ADMIN_TOKEN_FILE) };
        assert!(!is_made(&second));
        init_with(&second, &given).unwrap();
        assert!(is_made(&second));
        for file in [MASTER_KEY_FILE, ADMIN_TOKEN_FILE] {
            assert_eq!(fs::read(first.join(file)).unwrap(), fs::read(second.join(file)).unwrap());
            assert_eq!(fs::metadata(second.join(file)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        for given in [
            Given { master_key: of(ADMIN_TOKEN_FILE), admin_token: None },
            Given { master_key: None, admin_token: of(MASTER_KEY_FILE) },
            Given { master_key: of("nothing"), admin_token: None },
        ] {
            init_with(&third, &given).unwrap_err();
            assert!(!third.exists(), "{given:?} has left something half made");
        }
    }

    #[test]
    fn a_data_folder_that_others_may_read_is_closed_at_the_start() {
        let temp = tempfile::tempdir().unwrap();
        init(temp.path()).unwrap();
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
        load(temp.path()).unwrap();
        assert_eq!(fs::metadata(temp.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn secrets_that_others_may_read_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        init(temp.path()).unwrap();
        let file = temp.path().join(MASTER_KEY_FILE);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load(temp.path()), Err(InitError::Open(_))));
    }

    #[tokio::test]
    async fn a_master_key_that_is_not_the_stores_is_refused_until_it_is_taken_for_it() {
        use batoff_log::embedded::{EmbeddedConfig, EmbeddedStore};
        use batoff_log::{Store, system_clock};

        let temp = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(EmbeddedConfig::new(temp.path(), system_clock())).unwrap();
        let [first, other] = [MasterKey::generate(), MasterKey::generate()];
        let recognise = async |key| recognise(temp.path(), key, store.kv()).await.unwrap();
        assert!(recognise(&first).await.is_ok(), "a store that knows none takes what is there");
        assert!(recognise(&first).await.is_ok());
        let refused = recognise(&other).await.unwrap_err().to_string();
        for part in ["master.key", "--new-master-key", &first.fingerprint(), &other.fingerprint()] {
            assert!(refused.contains(part), "{refused}");
        }
        forget_master_key(store.kv()).await.unwrap();
        assert!(recognise(&other).await.is_ok());
        assert!(recognise(&first).await.is_err());
        store.close().await;
    }
}
