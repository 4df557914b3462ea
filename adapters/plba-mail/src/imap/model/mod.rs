//! An IMAP server in memory for tests: it answers from the state of its folders instead of a script, and its connections
//! break at a chosen byte. What servers say beside the rules is in scripted tests.

mod answers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;

use self::answers::{copy, expunge, fetch, list, quoted_and_rest, search, select, store, unquoted};
use super::connect::Dial;
use super::{Account, ByteStream, ImapError};

/// A message in a folder.
#[derive(Debug, Clone)]
pub(crate) struct Mail {
    pub(crate) uid: u32,
    pub(crate) body: Vec<u8>,
    pub(crate) flags: BTreeSet<String>,
    pub(crate) mod_seq: u64,
}

/// A folder.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    pub(crate) uid_validity: u32,
    pub(crate) uid_next: u32,
    pub(crate) mail: Vec<Mail>,
    pub(crate) mod_seq: u64,
    /// UIDs that went away, with the mod-sequence at which they did.
    pub(crate) vanished: Vec<(u32, u64)>,
}

/// What somebody else does on the server.
type Meddle = fn(&mut State);

/// All there is on the server, and how it behaves.
pub(crate) struct State {
    pub(crate) boxes: BTreeMap<String, Shelf>,
    pub(crate) capabilities: String,
    /// The flags that are kept.
    pub(crate) permanent: String,
    /// How many connections were made.
    pub(crate) dialled: u32,
    /// Every line that a client sent, but for the login's.
    pub(crate) lines: Vec<String>,
    /// After how many more bytes to the server, and to the client, a connection breaks.
    pub(crate) cut_to_server: Option<usize>,
    pub(crate) cut_to_client: Option<usize>,
    /// Bytes that were sent to clients, and received.
    pub(crate) sent: usize,
    pub(crate) received: usize,
    /// How many bytes fit into a connection: the fewer, the more often both sides wait.
    pub(crate) pipe: usize,
    /// Says nothing any more, on no connection, and keeps them open.
    pub(crate) silent: bool,
    /// Commands that are refused, by their beginning, with the words.
    pub(crate) refuses: Vec<(&'static str, &'static str)>,
    /// What happens before the next command that begins so.
    pub(crate) before: VecDeque<(&'static str, Meddle)>,
    next_validity: u32,
}

pub(crate) const INBOX: &str = "INBOX";

/// The server.
pub(crate) struct Model {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl State {
    pub(crate) fn folder(&mut self, name: &str) -> &mut Shelf {
        self.boxes
            .get_mut(name)
            .unwrap_or_else(|| panic!("there is no folder {name}"))
    }

    pub(crate) fn make(&mut self, name: &str) {
        self.next_validity += 1;
        let fresh = Shelf {
            uid_validity: self.next_validity,
            uid_next: 1,
            mail: Vec::new(),
            mod_seq: 1,
            vanished: Vec::new(),
        };
        self.boxes.entry(name.to_owned()).or_insert(fresh);
    }

    pub(crate) fn deliver(&mut self, folder: &str, body: &str) {
        self.folder(folder).add(body.as_bytes().to_vec(), BTreeSet::new());
    }

    /// Another UIDVALIDITY, and numbers from 1.
    pub(crate) fn renumber(&mut self, folder: &str) {
        self.next_validity += 1;
        let validity = self.next_validity;
        let folder = self.folder(folder);
        folder.uid_validity = validity;
        for (mail, uid) in folder.mail.iter_mut().zip(1..) {
            mail.uid = uid;
        }
        folder.uid_next = folder.mail.len() as u32 + 1;
    }
}

impl Shelf {
    fn add(&mut self, body: Vec<u8>, flags: BTreeSet<String>) -> u32 {
        self.mod_seq += 1;
        let (uid, mod_seq) = (self.uid_next, self.mod_seq);
        self.uid_next += 1;
        self.mail.push(Mail {
            uid,
            body,
            flags,
            mod_seq,
        });
        uid
    }

    pub(crate) fn expunge(&mut self, uid: u32) {
        self.mod_seq += 1;
        self.mail.retain(|mail| mail.uid != uid);
        self.vanished.push((uid, self.mod_seq));
    }

    pub(crate) fn flag(&mut self, uid: u32, flag: &str) {
        self.mod_seq += 1;
        let mod_seq = self.mod_seq;
        for mail in self.mail.iter_mut().filter(|mail| mail.uid == uid) {
            mail.flags.insert(flag.to_owned());
            mail.mod_seq = mod_seq;
        }
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        let text = |mail: &Mail| String::from_utf8_lossy(&mail.body).into_owned();
        self.mail.iter().map(text).collect()
    }
}

impl Model {
    /// An empty inbox on a server that can do all of this.
    pub(crate) fn new() -> Arc<Self> {
        let mut state = State {
            boxes: BTreeMap::new(),
            capabilities: "IMAP4rev1 IDLE MOVE UIDPLUS".into(),
            permanent: "\\Seen \\Deleted \\Flagged \\*".into(),
            dialled: 0,
            lines: Vec::new(),
            cut_to_server: None,
            cut_to_client: None,
            sent: 0,
            received: 0,
            pipe: 64 * 1024,
            silent: false,
            refuses: Vec::new(),
            before: VecDeque::new(),
            next_validity: 6,
        };
        state.make(INBOX);
        Arc::new(Model {
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
        })
    }

    /// The state, to look at or to change; who waits by IDLE is told.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.send_modify(|count| *count += 1);
        changed
    }

    pub(crate) fn texts(&self, folder: &str) -> Vec<String> {
        self.lock().boxes.get(folder).map(Shelf::texts).unwrap_or_default()
    }

    pub(crate) fn all_flagged(&self, folder: &str, flag: &str) -> bool {
        self.lock()
            .folder(folder)
            .mail
            .iter()
            .all(|mail| mail.flags.contains(flag))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

#[async_trait]
impl Dial for Arc<Model> {
    async fn dial(&self, _account: &Account) -> Result<Box<dyn ByteStream>, ImapError> {
        let pipe = self.change(|state| {
            state.dialled += 1;
            state.pipe
        });
        let (near, far) = duplex(pipe);
        let connection = Connection {
            model: Arc::clone(self),
            stream: far,
            buffer: Vec::new(),
            selected: None,
            known: Vec::new(),
            resyncs: false,
        };
        tokio::spawn(connection.serve());
        Ok(Box::new(near))
    }
}

/// The connection is over.
struct Over;

struct Connection {
    model: Arc<Model>,
    stream: DuplexStream,
    buffer: Vec<u8>,
    selected: Option<String>,
    /// The UIDs that the client has been told of, by sequence number.
    known: Vec<u32>,
    resyncs: bool,
}

impl Connection {
    async fn serve(mut self) {
        let _ = self.converse().await;
    }

    async fn converse(&mut self) -> Result<(), Over> {
        self.send("* OK ready\r\n").await?;
        loop {
            let line = self.line().await?;
            let (tag, command) = line.split_once(' ').unwrap_or((&line, ""));
            self.before(command);
            let refused = self
                .model
                .lock()
                .refuses
                .iter()
                .find(|(word, _)| command.starts_with(word))
                .copied();
            if let Some((_, words)) = refused {
                self.send(&format!("{tag} NO {words}\r\n")).await?;
                continue;
            }
            if command == "IDLE" {
                self.idle(tag).await?;
                continue;
            }
            let mut answer = self.answer(command);
            if !command.starts_with("SELECT") && !command.starts_with("UID FETCH") {
                answer.push_str(&self.news());
            }
            let code = if command.starts_with("SELECT") {
                "[READ-WRITE] "
            } else {
                ""
            };
            match answer.strip_prefix("NO ") {
                Some(words) => self.send(&format!("{tag} NO {words}\r\n")).await?,
                None if answer.starts_with("OK ") => {
                    let (code, rest) = answer[3..].split_once("\r\n").unwrap_or((&answer[3..], ""));
                    self.send(&format!("{rest}{tag} OK {code} done\r\n")).await?;
                }
                None => self.send(&format!("{answer}{tag} OK {code}done\r\n")).await?,
            }
            if command == "LOGOUT" {
                return Err(Over);
            }
        }
    }

    fn before(&self, command: &str) {
        let mut state = self.model.lock();
        let is_next = |(word, _): &(&str, Meddle)| command.starts_with(word);
        if state.before.front().is_some_and(is_next)
            && let Some((_, change)) = state.before.pop_front()
        {
            change(&mut state);
        }
    }

    async fn idle(&mut self, tag: &str) -> Result<(), Over> {
        let mut changes = self.model.changed.subscribe();
        self.send("+ idling\r\n").await?;
        loop {
            changes.borrow_and_update();
            let news = self.news();
            self.send(&news).await?;
            let ended = tokio::select! {
                line = Self::read_line(&self.model, &mut self.stream, &mut self.buffer) => Some(line?),
                _ = changes.changed() => None,
            };
            if ended.is_some_and(|line| line == "DONE") {
                return self.send(&format!("{tag} OK done\r\n")).await;
            }
        }
    }

    /// What the client has not been told of the folder.
    fn news(&mut self) -> String {
        let Some(name) = &self.selected else {
            return String::new();
        };
        let mut state = self.model.lock();
        let uids: Vec<u32> = state.folder(name).mail.iter().map(|mail| mail.uid).collect();
        let mut news = String::new();
        let mut index = 0;
        while index < self.known.len() {
            if uids.contains(&self.known[index]) {
                index += 1;
                continue;
            }
            let uid = self.known.remove(index);
            news += &match self.resyncs {
                true => format!("* VANISHED {uid}\r\n"),
                false => format!("* {} EXPUNGE\r\n", index + 1),
            };
        }
        if uids.len() > self.known.len() {
            news += &format!("* {} EXISTS\r\n", uids.len());
        }
        self.known = uids;
        news
    }

    /// Untagged lines; `NO words` for a refusal, `OK code` and lines where the tagged answer has a code.
    fn answer(&mut self, command: &str) -> String {
        let mut state = self.model.lock();
        let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
        match word {
            "CAPABILITY" => return format!("* CAPABILITY {}\r\n", state.capabilities),
            "LIST" => return list(&state, rest),
            "CREATE" => state.make(&unquoted(rest)),
            "ENABLE" => {
                self.resyncs = true;
                return format!("* ENABLED {rest}\r\n");
            }
            "SELECT" => {
                let (name, parameters) = quoted_and_rest(rest);
                let Some(folder) = state.boxes.get(&name) else {
                    return "NO [NONEXISTENT] no such folder".into();
                };
                self.known = folder.mail.iter().map(|mail| mail.uid).collect();
                self.selected = Some(name);
                return select(folder, &state.permanent, &parameters);
            }
            "UID" => {
                let Some(name) = self.selected.clone() else {
                    return "NO nothing is selected".into();
                };
                let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                return match word {
                    "SEARCH" => search(state.folder(&name), rest),
                    "FETCH" => fetch(state.folder(&name), rest),
                    "STORE" => store(state.folder(&name), rest),
                    "EXPUNGE" => expunge(state.folder(&name), rest),
                    "COPY" | "MOVE" => copy(&mut state, &name, rest, word == "MOVE"),
                    _ => "NO unknown".into(),
                };
            }
            _ => {}
        }
        String::new()
    }

    async fn line(&mut self) -> Result<String, Over> {
        Self::read_line(&self.model, &mut self.stream, &mut self.buffer).await
    }

    async fn read_line(model: &Model, stream: &mut DuplexStream, buffer: &mut Vec<u8>) -> Result<String, Over> {
        loop {
            if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if !line.contains("LOGIN") {
                    model.lock().lines.push(line.clone());
                }
                return Ok(line);
            }
            let byte = stream.read_u8().await.map_err(|_| Over)?;
            let mut state = model.lock();
            state.received += 1;
            if let Some(left) = &mut state.cut_to_server {
                if *left == 0 {
                    state.cut_to_server = None;
                    return Err(Over);
                }
                *left -= 1;
            }
            buffer.push(byte);
        }
    }

    async fn send(&mut self, text: &str) -> Result<(), Over> {
        if self.model.lock().silent {
            // What was open when the path broke stays broken.
            std::future::pending::<()>().await;
        }
        let (length, is_cut) = {
            let mut state = self.model.lock();
            let length = state.cut_to_client.map_or(text.len(), |left| left.min(text.len()));
            let is_cut = length < text.len();
            match (&mut state.cut_to_client, is_cut) {
                (cut, true) => *cut = None,
                (Some(left), false) => *left -= length,
                (None, false) => {}
            }
            state.sent += length;
            (length, is_cut)
        };
        self.stream
            .write_all(&text.as_bytes()[..length])
            .await
            .map_err(|_| Over)?;
        if is_cut { Err(Over) } else { Ok(()) }
    }
}
