//! A mail server: small, real, and as strict as it is told to be.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::receiver::Address;

/// One mail, and who handed it in.
#[derive(Debug, Clone, Default)]
pub struct Mail {
    pub user: String,
    pub from: String,
    pub to: Vec<String>,
    pub text: String,
}

impl Mail {
    /// The value of a header.
    pub fn header(&self, name: &str) -> String {
        let lead = format!("{name}: ");
        let line = self.text.lines().take_while(|line| !line.is_empty()).find(|line| line.starts_with(&lead));
        line.unwrap_or_else(|| panic!("no {name} in {}", self.text)).trim_start_matches(&lead).to_owned()
    }
}

/// A running mail server; stops when dropped.
pub struct Mailbox {
    mails: Arc<Mutex<Vec<Mail>>>,
    is_stopping: Arc<AtomicBool>,
    at: Address,
    thread: Option<JoinHandle<()>>,
}

impl Mailbox {
    /// Starts one that answers a recipient, as the session names him, with this code.
    pub fn start(at: Address, recipient_code: impl Fn(&str) -> u16 + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", at.0)).unwrap();
        let mails = Arc::new(Mutex::new(Vec::new()));
        let is_stopping = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (mails, is_stopping) = (Arc::clone(&mails), Arc::clone(&is_stopping));
            move || {
                for stream in listener.incoming() {
                    if is_stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    if let Some(mail) = converse(&stream.unwrap(), &recipient_code) {
                        mails.lock().unwrap().push(mail);
                    }
                }
            }
        });
        Self { mails, is_stopping, at, thread: Some(thread) }
    }

    pub fn mails(&self) -> Vec<Mail> {
        self.mails.lock().unwrap().clone()
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.at.0));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One session; the mail, once it was taken whole.
fn converse(mut stream: &TcpStream, recipient_code: &impl Fn(&str) -> u16) -> Option<Mail> {
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut line = || {
        let mut text = String::new();
        (lines.read_line(&mut text).ok()? > 0).then(|| text.trim_end_matches(['\r', '\n']).to_owned())
    };
    let mut say = |text: &str| stream.write_all(format!("{text}\r\n").as_bytes()).ok();
    let (mut mail, mut taken) = (Mail::default(), None);
    say("220 mail.test ESMTP")?;
    while let Some(said) = line() {
        let (verb, rest) = said.split_at(said.len().min(4));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => say("250-mail.test\r\n250-8BITMIME\r\n250 AUTH PLAIN")?,
            "AUTH" => {
                mail.user = rest.trim().to_owned();
                say("235 welcome")?
            }
            "MAIL" => {
                mail.from = rest.to_owned();
                say("250 ok")?
            }
            "RCPT" => {
                mail.to.push(rest.to_owned());
                let code = recipient_code(rest);
                say(&format!("{code} {}", if code == 250 { "ok" } else { "no <secret@example.com>" }))?
            }
            "DATA" => {
                say("354 go on")?;
                while let Some(text) = line().filter(|text| text != ".") {
                    mail.text.push_str(&text);
                    mail.text.push('\n');
                }
                taken = Some(mail.clone());
                say("250 taken")?
            }
            "QUIT" => {
                say("221 bye")?;
                break;
            }
            _ => say("250 ok")?,
        };
    }
    taken
}
