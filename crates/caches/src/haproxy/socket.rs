//! HAProxy's runtime API: one connection for a line of commands, their answers in order, each ended by an empty line.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Commands on one line.
const LINE_COMMANDS: usize = 50;

/// Bytes of one line; HAProxy takes `tune.bufsize`, 16 KiB. A single command may be longer than this.
const LINE_BYTES: usize = 6 * 1024;

/// For one line. A process that takes longer is in trouble.
const PATIENCE: Duration = Duration::from_secs(10);

/// What HAProxy says to `set map` where nothing can be set.
pub(super) const NOT_FOUND: &str = "entry not found";

/// The admin socket.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    path: PathBuf,
}

/// The answer to one command: empty for one that has nothing to say.
pub(super) type Answer = String;

impl Socket {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs the commands, in their order; as many answers. Each line of them may be answered by another process.
    pub(super) async fn run(&self, commands: &[String]) -> io::Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(commands.len());
        let mut rest = commands;
        while !rest.is_empty() {
            let (line, more) = rest.split_at(line_of(rest));
            answers.extend(self.line(line).await?);
            rest = more;
        }
        Ok(answers)
    }

    /// The same in one process: each line begins with `guard`, and nothing more is asked when its answer is not the one
    /// that `expected` says. `None`: another process has answered; what was asked of it before is done.
    pub(super) async fn run_if(
        &self,
        guard: &str,
        expected: impl Fn(&str) -> bool,
        commands: &[String],
    ) -> io::Result<Option<Vec<Answer>>> {
        let mut answers = Vec::with_capacity(commands.len());
        let mut rest = commands;
        while !rest.is_empty() {
            let (line, more) = rest.split_at(line_of(rest));
            let mut guarded = vec![guard.to_owned()];
            guarded.extend_from_slice(line);
            let mut said = self.line(&guarded).await?.into_iter();
            if !said.next().is_some_and(|answer| expected(&answer)) {
                return Ok(None);
            }
            answers.extend(said);
            rest = more;
        }
        Ok(Some(answers))
    }

    async fn line(&self, line: &[String]) -> io::Result<Vec<Answer>> {
        let text = self.ask(&line.join(";")).await?;
        let split = answers_of(&text);
        if split.len() != line.len() {
            let text = text.chars().take(200).collect::<String>();
            let what = format!("{} answers to {} commands: {text:?}", split.len(), line.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(split)
    }

    /// What one line is answered with, as it comes.
    async fn ask(&self, line: &str) -> io::Result<String> {
        let asked = async {
            let mut stream = UnixStream::connect(&self.path).await?;
            stream.write_all(format!("{line}\n").as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            // What an operator has called the node, in whatever encoding, is not asked for.
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 s")),
        }
    }
}

/// A word of a command: a semicolon would end it, a space would end the word.
pub(super) fn word(text: &str) -> String {
    let mut word = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, ';' | '\\' | ' ' | '"' | '\'') {
            word.push('\\');
        }
        word.push(c);
    }
    word
}

/// How many of the commands fit on a line.
fn line_of(commands: &[String]) -> usize {
    let mut bytes = 0;
    let fits = commands.iter().take(LINE_COMMANDS).take_while(|command| {
        bytes += command.len() + 1;
        bytes < LINE_BYTES
    });
    fits.count().max(1)
}

fn answers_of(text: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(more) = rest.strip_prefix('\n') {
            answers.push(String::new());
            rest = more;
        } else {
            let (answer, more) = rest.split_once("\n\n").unwrap_or((rest.trim_end(), ""));
            answers.push(answer.to_owned());
            rest = more;
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(answers_of("\n\n"), ["", ""]);
        assert_eq!(answers_of("entry not found.\n\n\n"), ["entry not found.", ""]);
        assert_eq!(answers_of("\n0x1 a b\n0x2 c d\n\n\n"), ["", "0x1 a b\n0x2 c d", ""]);
        assert_eq!(answers_of("no end"), ["no end"]);
        assert_eq!(answers_of(""), [""; 0]);
    }

    #[test]
    fn a_url_stays_one_word() {
        assert_eq!(word("a.b/c;d?e=f\\g"), "a.b/c\\;d?e=f\\\\g");
    }
}
