//! Varnish's command line, as `varnishadm` speaks it: one line a command, a length before each answer, and proof of
//! knowing the secret first.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Commands that are on their way at one time.
const WINDOW: usize = 32;

/// For connecting, and for the answers of one window.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of an answer; `cli_limit` is far below.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Statuses of the protocol.
const OK: u16 = 200;
const AUTHENTICATE: u16 = 107;

/// Bytes of the challenge, at the beginning of the banner.
const CHALLENGE_BYTES: usize = 32;

/// A connection to varnishd's command line, made when it is needed and kept.
#[derive(Debug)]
pub struct Cli {
    address: String,
    secret: PathBuf,
    /// Sent first on each connection: what varnishd forgets when it is restarted.
    greeting: Vec<String>,
    connection: Option<BufReader<TcpStream>>,
}

/// Why a command was not carried out. Never holds the secret.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The file with the secret cannot be read.
    #[error("cannot read {}: {source}; it is the file behind varnishd's -S, and this user must be able to read it", path.display())]
    Secret {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// varnishd has another secret.
    #[error("varnishd at {address} does not accept the secret in {}; name the file behind its -S", path.display())]
    Refused {
        /// Where.
        address: String,
        /// Which file.
        path: PathBuf,
    },
    /// A command was not understood.
    #[error("varnishd refuses {command:?}: {status} {text}")]
    Command {
        /// Which.
        command: String,
        /// The status of the protocol.
        status: u16,
        /// What varnishd says about it.
        text: String,
    },
    /// It cannot be reached.
    #[error("varnishd's command line at {address}: {source}")]
    Connection {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
}

impl Cli {
    /// Not connected yet.
    pub fn new(address: &str, secret: PathBuf, greeting: Vec<String>) -> Self {
        Self { address: address.to_owned(), secret, greeting, connection: None }
    }

    /// Runs all the commands, in their order, and gives their answers. They must be idempotent: a connection that was
    /// dropped is made anew once, and they are all sent again.
    pub async fn run(&mut self, commands: &[String]) -> Result<Vec<String>, CliError> {
        let kept = self.connection.is_some();
        match self.attempt(commands).await {
            Err(CliError::Connection { .. }) if kept => self.attempt(commands).await,
            outcome => outcome,
        }
    }

    async fn attempt(&mut self, commands: &[String]) -> Result<Vec<String>, CliError> {
        let attempt = async {
            if self.connection.is_none() {
                self.connection = Some(self.connect().await?);
                let greeting = self.greeting.clone();
                self.exchange(&greeting).await?;
            }
            self.exchange(commands).await
        };
        let outcome = attempt.await;
        if outcome.is_err() {
            self.connection = None;
        }
        outcome
    }

    async fn exchange(&mut self, commands: &[String]) -> Result<Vec<String>, CliError> {
        let mut answers = Vec::with_capacity(commands.len());
        for window in commands.chunks(WINDOW) {
            let Some(stream) = &mut self.connection else { break };
            let exchanged = within(async {
                let text: String = window.iter().flat_map(|command| [command.as_str(), "\n"]).collect();
                stream.get_mut().write_all(text.as_bytes()).await?;
                let mut answers = Vec::with_capacity(window.len());
                for _ in window {
                    answers.push(answer(stream).await?);
                }
                Ok(answers)
            });
            let exchanged = exchanged.await.map_err(|source| self.broken(source))?;
            for (command, (status, text)) in window.iter().zip(exchanged) {
                if status != OK {
                    return Err(CliError::Command { command: command.clone(), status, text });
                }
                answers.push(text);
            }
        }
        Ok(answers)
    }

    async fn connect(&self) -> Result<BufReader<TcpStream>, CliError> {
        let opened = within(async {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            let mut stream = BufReader::new(stream);
            let banner = answer(&mut stream).await?;
            Ok((stream, banner))
        });
        let (mut stream, (status, banner)) = opened.await.map_err(|source| self.broken(source))?;
        if status != AUTHENTICATE {
            return Ok(stream);
        }
        // Read each time: it may have been replaced.
        let secret = std::fs::read(&self.secret)
            .map_err(|source| CliError::Secret { path: self.secret.clone(), source })?;
        let command = format!("auth {}\n", response(&banner, &secret));
        let answered = within(async {
            stream.get_mut().write_all(command.as_bytes()).await?;
            answer(&mut stream).await
        });
        match answered.await {
            Ok((OK, _)) => Ok(stream),
            // It closes the connection, or asks again.
            Ok(_) => Err(CliError::Refused { address: self.address.clone(), path: self.secret.clone() }),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(CliError::Refused { address: self.address.clone(), path: self.secret.clone() })
            }
            Err(source) => Err(self.broken(source)),
        }
    }

    fn broken(&self, source: io::Error) -> CliError {
        CliError::Connection { address: self.address.clone(), source }
    }
}

async fn within<T>(exchange: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 s")),
    }
}

/// The proof of knowing the secret, for the challenge at the beginning of the banner.
fn response(banner: &str, secret: &[u8]) -> String {
    let challenge = banner.get(..CHALLENGE_BYTES).unwrap_or(banner);
    let mut hash = Sha256::new();
    for part in [challenge.as_bytes(), b"\n", secret, challenge.as_bytes(), b"\n"] {
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One answer: three digits of status, a space, eight columns of length, a line break; the text; a line break.
async fn answer(stream: &mut BufReader<TcpStream>) -> io::Result<(u16, String)> {
    let mut head = [0; 13];
    stream.read_exact(&mut head).await?;
    let head = std::str::from_utf8(&head).ok().filter(|head| head.ends_with('\n'));
    let parsed =
        head.and_then(|head| Some((head.get(..3)?.parse().ok()?, head.get(4..12)?.trim().parse().ok()?)));
    let Some((status, length)) = parsed.filter(|&(_, length): &(u16, usize)| length <= ANSWER_BYTES_MAX)
    else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is not varnishd's"));
    };
    let mut text = vec![0; length + 1];
    stream.read_exact(&mut text).await?;
    text.pop();
    Ok((status, String::from_utf8_lossy(&text).into_owned()))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncBufReadExt;
    use tokio::net::TcpListener;

    use super::*;

    const BANNER: &str = "ixslvvxrgkjptxmcgnnsdxsvdmvfympg\n\nAuthentication required.\n";

    #[test]
    fn the_response_is_that_of_the_manual() {
        // varnish-cli(7), "Authentication".
        let expected = "455ce847f0073c7ab3b1465f74507b75d3dc064c1e7de3b71e00de9092fdc89a";
        assert_eq!(response(BANNER, b"foo\n"), expected);
    }

    /// Answers like varnishd until `commands` were heard, then closes; what it heard.
    async fn varnishd(commands: usize) -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (heard, out) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let mut stream = BufReader::new(listener.accept().await.unwrap().0);
                let banner = format!("107 {:<8}\n{BANNER}\n", BANNER.len());
                stream.get_mut().write_all(banner.as_bytes()).await.unwrap();
                for _ in 0..commands {
                    let mut line = String::new();
                    if stream.read_line(&mut line).await.unwrap() == 0 {
                        break;
                    }
                    let status =
                        if line.starts_with("bad") { "106 3       \nno!\n" } else { "200 2       \nok\n" };
                    drop(heard.send(line.trim_end().to_owned()));
                    stream.get_mut().write_all(status.as_bytes()).await.unwrap();
                }
            }
        });
        (address, out)
    }

    fn secret(dir: &tempfile::TempDir) -> PathBuf {
        let path = dir.path().join("secret");
        std::fs::write(&path, "foo\n").unwrap();
        path
    }

    #[tokio::test]
    async fn a_dropped_connection_is_made_anew_and_greeted_again() {
        let dir = tempfile::tempdir().unwrap();
        let (address, mut heard) = varnishd(3).await;
        let mut cli = Cli::new(&address, secret(&dir), vec!["hello".to_owned()]);
        for _ in 0..3 {
            assert_eq!(cli.run(&["ban".to_owned()]).await.unwrap(), ["ok"]);
        }
        drop(cli);
        let mut all = Vec::new();
        while let Ok(line) = heard.try_recv() {
            all.push(line);
        }
        let greetings = all.iter().filter(|line| *line == "hello").count();
        assert_eq!((greetings, all.iter().filter(|line| *line == "ban").count()), (3, 3), "{all:?}");
    }

    #[tokio::test]
    async fn errors_name_the_command_or_the_file_and_never_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        let (address, _heard) = varnishd(10).await;
        let mut cli = Cli::new(&address, secret(&dir), Vec::new());
        let error = cli.run(&["bad idea".to_owned()]).await.unwrap_err();
        assert!(matches!(&error, CliError::Command { status: 106, .. }) && error.to_string().contains("no!"));
        let mut cli = Cli::new(&address, dir.path().join("none"), Vec::new());
        let error = cli.run(&[]).await.unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
        assert!(!format!("{cli:?} {error:?}").contains("foo"));
    }
}
