//! An image server of raw sockets: it can break a connection in the middle of a body, as a killed one does.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What it does with the next PUT.
pub(crate) enum Next {
    /// Takes this many bytes, then breaks the connection.
    BreakAfter(usize),
    /// Takes it all.
    Take,
    /// Answers with status and body, taking nothing: the client may find its connection reset before it reads that.
    Answer(&'static str, &'static str),
    /// Takes it all, finds that it is not the digest's, and drops it; with this body.
    Drop(&'static str),
}

#[derive(Default)]
pub(crate) struct Held {
    pub(crate) bytes: Vec<u8>,
    pub(crate) complete: bool,
    /// What comes of the next PUTs; after those, all goes well.
    pub(crate) next: VecDeque<Next>,
    /// `METHOD PATH CONTENT-RANGE`, in order.
    pub(crate) asked: Vec<String>,
}

pub(crate) struct ImageServer {
    pub(crate) url: String,
    pub(crate) held: Arc<Mutex<Held>>,
}

impl ImageServer {
    /// Its thread ends with the test's process.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let held = Arc::new(Mutex::new(Held::default()));
        let shared = Arc::clone(&held);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // One connection at a time is enough: a client's next one comes after its last one broke.
                let _broken = serve(&stream, &shared);
            }
        });
        Self { url, held }
    }
}

fn serve(stream: &TcpStream, held: &Mutex<Held>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line == "\r\n" {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let header = |name: &str| {
        head.iter().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)))
    };
    let text = |name: &str| header(name).map(|(_, value)| value.to_owned()).unwrap_or_default();
    let mut held = held.lock().unwrap();
    let what = head[0].rsplit_once(' ').map_or("", |(what, _)| what);
    held.asked.push(format!("{what} {}", text("content-range")).trim().to_owned());
    let length: usize = text("content-length").parse().unwrap_or(0);
    let answer = if head[0].starts_with("HEAD") {
        let status = if held.complete { "200 OK" } else { "404 Not Found" };
        format!(
            "HTTP/1.1 {status}\r\nUpload-Offset: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            held.bytes.len()
        )
    } else {
        match put(&mut held, &mut reader, &text("content-range"), length)? {
            Some(answer) => answer,
            None => return Ok(()),
        }
    };
    (&*stream).write_all(answer.as_bytes())
}

fn put(
    held: &mut Held,
    reader: &mut impl Read,
    range: &str,
    length: usize,
) -> std::io::Result<Option<String>> {
    let answer = |status: &str, offset: usize, body: &str| {
        Some(format!(
            "HTTP/1.1 {status}\r\nUpload-Offset: {offset}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
    };
    let start = range.trim_start_matches("bytes ").split('-').next().and_then(|start| start.parse().ok());
    if start.is_some_and(|start: usize| start != held.bytes.len()) {
        return Ok(answer("409 Conflict", held.bytes.len(), ""));
    }
    let mut take = |held: &mut Held, most: usize| -> std::io::Result<()> {
        reader.take(most as u64).read_to_end(&mut held.bytes)?;
        Ok(())
    };
    match held.next.pop_front() {
        Some(Next::BreakAfter(most)) => {
            take(held, most)?;
            Ok(None)
        }
        Some(Next::Answer(status, body)) => Ok(answer(status, held.bytes.len(), body)),
        Some(Next::Drop(body)) => {
            take(held, length)?;
            held.bytes.clear();
            Ok(answer("422 Unprocessable Content", 0, body))
        }
        Some(Next::Take) | None => {
            take(held, length)?;
            let total = range.rsplit_once('/').and_then(|(_, total)| total.parse().ok());
            held.complete = total == Some(held.bytes.len());
            let status = if held.complete { "201 Created" } else { "202 Accepted" };
            Ok(answer(status, held.bytes.len(), ""))
        }
    }
}
