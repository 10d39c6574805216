//! A health check for where there is no shell and no curl: one request to a running program, and an exit code.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::exit::{Exit, Failure};

/// For connecting, for the question and for each part of the answer: a program that is well answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of an answer that are read. What is asked here fits many times.
const ANSWER_MAX: u64 = 64 * 1024;

/// What a program is asked at its monitoring address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wellness {
    /// Does the process run? `/healthz`
    Alive,
    /// Does it do its job? `/readyz`
    Ready,
}

impl Wellness {
    const fn path(self) -> &'static str {
        match self {
            Self::Alive => "/healthz",
            Self::Ready => "/readyz",
        }
    }
}

/// Asks the program whose `metrics.listen` that is, and tells what it answered when that is yes.
///
/// # Errors
/// It answers no, with its reason, or not at all (75).
pub fn probe(address: SocketAddr, question: Wellness) -> Result<String, Failure> {
    let answer = ask(address, question).map_err(|error| no(address, question, &error.to_string()))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.as_str(), ""));
    match head.split_whitespace().nth(1) {
        Some("200") => Ok(body.to_owned()),
        Some(status) => Err(no(address, question, &format!("{status} {}", body.trim()))),
        None => Err(no(address, question, "the answer is not HTTP")),
    }
}

fn no(address: SocketAddr, question: Wellness, why: &str) -> Failure {
    Failure::new(Exit::Temporary, format!("{address}{}: {why}", question.path()))
}

fn ask(address: SocketAddr, question: Wellness) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let path = question.path();
    // 1.0: the answer ends with the connection, and is not cut into chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one request like that; what was asked.
    fn answering(answer: &'static str) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 512];
            let length = stream.read(&mut asked).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        (address, asked)
    }

    #[test]
    fn what_is_ready_says_so_and_what_is_not_says_why() {
        let (address, asked) = answering("HTTP/1.0 200 OK\r\nx: y\r\n\r\nready\n");
        assert_eq!(probe(address, Wellness::Ready).unwrap(), "ready\n");
        assert!(asked.join().unwrap().starts_with("GET /readyz HTTP/1.0\r\n"));

        let (address, asked) = answering("HTTP/1.0 503 Service Unavailable\r\n\r\nno lease\n");
        let failure = probe(address, Wellness::Alive).unwrap_err();
        assert_eq!(failure.exit(), Exit::Temporary);
        assert!(failure.to_string().contains("503 no lease"), "{failure}");
        assert!(asked.join().unwrap().starts_with("GET /healthz "));
    }

    #[test]
    fn nobody_and_somebody_else_are_no_answer() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(probe(closed, Wellness::Ready).unwrap_err().exit(), Exit::Temporary);
        let (address, _) = answering("SSH-2.0\r\n");
        assert!(probe(address, Wellness::Ready).unwrap_err().to_string().contains("not HTTP"));
    }
}
