//! Messages of which no answer of the server can be read: kept as they came, and taken in from there when their dead letters
//! are retried, since the server's answer would be no other one. The files are `crate::parked`'s.

use std::sync::Arc;

use plba_tasks::intake::Arrival;
use plba_tasks::ledger::EntryState;
use tracing::warn;

use super::Fault;
use super::shift::{Open, Shift};
use crate::imap::wire::message_in;

impl Shift<'_> {
    /// Keeps what was heard of a message, and says so, to be put into a sentence.
    pub(super) async fn park(&self, key: &str, heard: Option<Vec<u8>>) -> String {
        let (Some(parked), Some(heard)) = (&self.source.settings.parked, heard) else {
            return String::new();
        };
        let (raw, whole) = match message_in(&heard) {
            Some((message, whole)) => (message.to_vec(), whole),
            None => (heard, false),
        };
        match parked.keep(self.intake.source(), key, raw, whole).await {
            Ok(path) if whole => format!(
                "; its raw bytes are kept in {}, and are taken from there by a retry",
                path.display()
            ),
            Ok(path) => format!("; what came of it is kept in {}", path.display()),
            Err(error) => {
                warn!(source = self.source.name, key, %error, "the raw bytes of a message could not be kept");
                format!("; its raw bytes could not be kept ({error})")
            }
        }
    }

    /// Publishes the messages of dead letters that are retried and whose raw bytes were kept; answers with the other keys.
    pub(super) async fn take_in_parked(
        &mut self,
        open: &mut Open,
        keys: Vec<Arc<str>>,
    ) -> Result<Vec<Arc<str>>, Fault> {
        let Some(parked) = self.source.settings.parked.clone() else {
            return Ok(keys);
        };
        let kept = self.parked_keys().await;
        let (kept, mut others): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| kept.contains(key));
        for key in kept {
            match parked.message(self.intake.source(), &key).await {
                Ok(Some(message)) => {
                    let task = self.source.settings.task(message);
                    self.publish(Some(open), vec![Arrival { key, task }]).await?;
                }
                // Only a part came: it may do so no more.
                Ok(None) => others.push(key),
                Err(error) => {
                    warn!(source = self.source.name, %key, %error, "the raw bytes of a message can't be read: fetching it");
                    others.push(key);
                }
            }
        }
        Ok(others)
    }

    /// Removes what is kept of messages that are no longer dead letters, nor being carried out again.
    pub(super) async fn clear_parked(&self) -> Result<(), Fault> {
        let Some(parked) = &self.source.settings.parked else {
            return Ok(());
        };
        let keys = self.parked_keys().await;
        if keys.is_empty() {
            return Ok(());
        }
        let known = self.intake.known(&keys).await?;
        for (key, known) in keys.iter().zip(known) {
            let over = known.is_none_or(|known| matches!(known.state, EntryState::Done | EntryState::Settled));
            if over && let Err(error) = parked.remove(self.intake.source(), key).await {
                warn!(source = self.source.name, %key, %error, "the raw bytes of a message can't be removed");
            }
        }
        Ok(())
    }

    async fn parked_keys(&self) -> Vec<Arc<str>> {
        let Some(parked) = &self.source.settings.parked else {
            return Vec::new();
        };
        match parked.keys(self.intake.source()).await {
            Ok(keys) => keys.into_iter().map(Arc::from).collect(),
            Err(error) => {
                warn!(source = self.source.name, %error, "the directory of raw messages can't be read");
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use plba_tasks::ledger::SourceLedger;
    use plba_tasks::source::TaskSource;
    use plba_testkit::directory::Directory;

    use super::super::ImapSource;
    use super::super::tests::{Scripts, found, ok, opened};
    use super::*;
    use crate::imap::scripted::{Step, answer};
    use crate::location::Location;
    use crate::parked::Parked;
    use crate::settings::SourceSettings;
    use crate::test_bench::{Bench, SOURCE, settings, until};

    fn source(scripts: &Arc<Scripts>, directory: &Directory) -> Arc<ImapSource> {
        let Ok(Location::Imap(location)) = "imap://bot@localhost/INBOX".parse() else {
            panic!("a good location");
        };
        let settings = SourceSettings {
            parked: Some(Parked::new(directory.path(), 1 << 20)),
            ..settings()
        };
        let dial: Arc<Scripts> = Arc::clone(scripts);
        Arc::new(ImapSource::new(location, settings).over(dial))
    }

    /// Lives in which message 1 can't be read, as many as are needed to give it up. In the one after them its retry comes
    /// first, by `retry`, because operators are quicker here than the source is with its next try; then `steps`.
    fn lives(nonsense: &[u8], retry: Vec<Step>, steps: Vec<Step>) -> Arc<Scripts> {
        let search = || vec![ok("NOOP"), found("UID SEARCH UID 1:1", "1")];
        let known = vec![found("UID SEARCH UID 1:1", "1"), found("UID SEARCH UID 2:*", "1")];
        let blind = || {
            opened(
                7,
                2,
                [search(), vec![answer("UID FETCH 1 (UID BODY.PEEK[])", nonsense)]].concat(),
            )
        };
        Scripts::new(vec![
            opened(
                7,
                2,
                [search(), vec![answer("UID FETCH 1 (UID FLAGS", "garbage\r\n")]].concat(),
            ),
            blind(),
            blind(),
            opened(7, 2, [vec![ok("NOOP")], retry, known, steps].concat()),
        ])
    }

    async fn buried(bench: &Bench) -> String {
        while bench.keys(EntryState::Dead).is_empty() {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        bench.ledger.reason("7:1").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreadable_message_is_kept_byte_by_byte_and_a_retry_takes_it_from_there() {
        let raw = b"Subject: \xff\0\r\n\r\n2 x ART-1\r\n";
        let mut nonsense = format!("* 1 FETCH (UID 1 BODY[] ~{{{}}}\r\n", raw.len()).into_bytes();
        nonsense.extend_from_slice(raw);
        nonsense.extend_from_slice(b" MOOD sad)\r\n{tag} OK\r\n");
        let seen = answer("UID STORE 1 +FLAGS", "* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n{tag} OK\r\n");
        let scripts = lives(&nonsense, Vec::new(), vec![seen]);
        let directory = Directory::new();
        let (bench, source) = (Bench::new(), source(&scripts, &directory));
        let running = bench.run(&source);
        let reason = buried(&bench).await;
        assert!(reason.contains("raw bytes are kept in"), "{reason}");
        let parked = Parked::new(directory.path(), 0);
        assert_eq!(parked.message(SOURCE, "7:1").await.unwrap().unwrap(), &raw[..]);

        let id = bench.intake().task_id("7:1");
        assert_eq!(bench.ledger.retry_dead(&"orders".into(), &[id]).await.unwrap(), 1);
        let again = bench.next().await;
        assert_eq!(again.task.payload, &raw[..]);
        assert_eq!(parked.keys(SOURCE).await.unwrap(), ["7:1"], "until it is done");
        bench.complete(again).await;
        until("settled", || source.status().settled == 1).await;
        running.abort();
        drop(running.await);

        // The next connection clears up.
        let next = self::source(&Scripts::new(vec![opened(7, 2, Vec::new())]), &directory);
        let bench = bench.restarted();
        let _running = bench.run(&next);
        until("removed", || std::fs::read_dir(directory.path()).unwrap().count() == 0).await;
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_message_that_does_not_come_whole_the_part_is_kept_and_a_retry_fetches_it() {
        let body = answer(
            "UID FETCH 1 (UID BODY.PEEK[])",
            "* 1 FETCH (UID 1 BODY[] {5}\r\nhello)\r\n{tag} OK\r\n",
        );
        let sizes = answer(
            "UID FETCH 1 (UID FLAGS",
            "* 1 FETCH (UID 1 RFC822.SIZE 5)\r\n{tag} OK\r\n",
        );
        let scripts = lives(b"garbage\r\n", vec![sizes, body], Vec::new());
        let directory = Directory::new();
        let (bench, source) = (Bench::new(), source(&scripts, &directory));
        let _running = bench.run(&source);
        let reason = buried(&bench).await;
        assert!(reason.contains("what came of it is kept in"), "{reason}");
        let kept: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
        let path = kept[0].as_ref().unwrap().path();
        assert_eq!(std::fs::read(path).unwrap(), b"garbage\r\n");
        let id = bench.intake().task_id("7:1");
        bench.ledger.retry_dead(&"orders".into(), &[id]).await.unwrap();
        assert_eq!(bench.take(1).await, ["hello"]);
    }

    /// Where only the size can't be told, the message can.
    #[tokio::test(start_paused = true)]
    async fn a_message_whose_flags_make_no_sense_is_no_dead_letter() {
        let search = || vec![ok("NOOP"), found("UID SEARCH UID 1:1", "1")];
        let body = "* 1 FETCH (UID 1 BODY[] {5}\r\nhello)\r\n{tag} OK\r\n";
        let scripts = Scripts::new(vec![
            opened(
                7,
                2,
                [search(), vec![answer("UID FETCH 1 (UID FLAGS", "garbage\r\n")]].concat(),
            ),
            opened(
                7,
                2,
                [search(), vec![answer("UID FETCH 1 (UID BODY.PEEK[])", body)]].concat(),
            ),
        ]);
        let directory = Directory::new();
        let bench = Bench::new();
        let _running = bench.run(&source(&scripts, &directory));
        assert_eq!(bench.take(1).await, ["hello"]);
        assert!(bench.keys(EntryState::Dead).is_empty());
    }
}
