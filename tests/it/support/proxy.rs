//! Somebody on the way to a server, who can be told to lie: what a real server never does on its own.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::http::Http;

/// Status and body by path.
pub type Answers = BTreeMap<String, (u16, Vec<u8>)>;

type Change = Arc<dyn Fn(&str, Vec<u8>) -> Vec<u8> + Send + Sync>;

#[derive(Clone)]
enum Mode {
    Honest,
    Replaying(Arc<Answers>),
    Bending(Change),
}

/// A proxy before one server, over plain HTTP.
pub struct Proxy {
    /// Its own base URL.
    pub url: String,
    mode: Arc<Mutex<Mode>>,
    seen: Arc<Mutex<Answers>>,
}

impl Proxy {
    /// Before the server with this base URL.
    pub fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (mode, seen) = (Arc::new(Mutex::new(Mode::Honest)), Arc::<Mutex<Answers>>::default());
        let proxy = Self { url, mode: mode.clone(), seen: seen.clone() };
        let server = server.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (server, mode, seen) = (server.clone(), mode.clone(), seen.clone());
                std::thread::spawn(move || answer(stream, &server, &mode, &seen));
            }
        });
        proxy
    }

    /// What went through so far.
    pub fn seen(&self) -> Answers {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says from now on what was said before, and nothing else.
    pub fn replay(&self, answers: Answers) {
        self.set(Mode::Replaying(Arc::new(answers)));
    }

    /// Changes the bodies of good answers, by path.
    pub fn bend(&self, change: impl Fn(&str, Vec<u8>) -> Vec<u8> + Send + Sync + 'static) {
        self.set(Mode::Bending(Arc::new(change)));
    }

    /// Passes everything on again.
    pub fn honest(&self) {
        self.set(Mode::Honest);
    }

    fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }
}

fn answer(mut stream: TcpStream, server: &str, mode: &Mutex<Mode>, seen: &Mutex<Answers>) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
    let Some(path) = request(&mut stream) else { return };
    let mode = mode.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (status, body) = match mode {
        Mode::Replaying(answers) => answers.get(&path).cloned().unwrap_or((404, Vec::new())),
        Mode::Honest | Mode::Bending(_) => match Http::trusting("").get(&format!("{server}{path}")) {
            Ok(reply) => {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.insert(path.clone(), (reply.status, reply.body.clone()));
                match mode {
                    Mode::Bending(change) if reply.status == 200 => (200, change(&path, reply.body)),
                    _ => (reply.status, reply.body),
                }
            }
            Err(_) => (502, Vec::new()),
        },
    };
    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(&[head.as_bytes(), &body].concat());
}

/// The path of a GET.
fn request(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    head.strip_prefix("GET ")?.split(' ').next().map(str::to_owned)
}
