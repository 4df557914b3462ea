//! Overrides: the highest layer, kept in the state directory, each until its time is over; tried before they are kept, and
//! kept as on trial until they are proven.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use plba_contracts::clock::Clock;
use serde_json::{Value, json};

use super::*;
use crate::config::change::{
    ChangeObserver, LivePart, Proposal, Proving, Refusal, ReloadOutcome, Transactions, Trial, TrialVerdict, Trigger,
};
use crate::config::overrides::{FILE, Override, OverrideChange, OverrideKeeper, OverrideRefusal, Overrides};

/// A clock that is set.
#[derive(Clone, Default)]
struct Set(Arc<std::sync::atomic::AtomicI64>);

impl Set {
    fn to(&self, seconds: i64) {
        self.0.store(seconds, Ordering::Relaxed);
    }
}

impl Clock for Set {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// A bot whose state is in the directory itself.
fn directory() -> (Directory, Set) {
    let mut directory = Directory::new();
    directory.definitions = on_the_platform;
    let clock = Set::default();
    directory.sources.kept = Overrides::by(Arc::new(clock.clone()));
    let state = format!("platform.state_dir={}", directory.path.display());
    (directory.set(&state), clock)
}

fn write(directory: &Directory, document: &Value) {
    fs::write(directory.path.join(FILE), document.to_string()).unwrap();
}

fn kept(directory: &Directory) -> Value {
    match fs::read_to_string(directory.path.join(FILE)) {
        Ok(text) => serde_json::from_str(&text).unwrap(),
        Err(_) => Value::Null,
    }
}

fn one(key: &str, value: Value) -> Value {
    json!({ "key": key, "value": value, "by": "anna", "at": "2026-11-22T10:00:00Z" })
}

#[test]
fn they_are_the_highest_layer_and_the_later_lies_above_the_earlier() {
    let (directory, _) = directory();
    let replies = one("bot.replies", json!({ "from": "a", "copies": 1 }));
    let overrides = [
        one("bot.workers", json!(12)),
        replies,
        one("bot.replies.copies", json!(2)),
    ];
    write(&directory, &json!({ "version": 1, "overrides": overrides }));
    let directory = directory.set("bot.workers=9");
    let bot = directory.bot();
    assert_eq!(
        (bot.workers, bot.replies.from.as_str(), bot.replies.copies),
        (12, "a", 2)
    );
    let explained = directory.load().unwrap().current().explain("bot.workers").unwrap();
    assert_eq!(explained.origin.to_string(), "override by anna at 2026-11-22T10:00:00Z");
    assert_eq!(
        explained.layers[1].origin.to_string(),
        "command line: --set bot.workers=9"
    );
}

#[test]
fn one_whose_time_is_over_does_not_count() {
    let (directory, clock) = directory();
    let mut ending = one("bot.workers", json!(12));
    ending["until"] = json!(at(100));
    ending["why"] = json!("sale");
    write(&directory, &json!({ "version": 1, "overrides": [ending] }));
    clock.to(99);
    assert_eq!(directory.bot().workers, 12);
    let origin = directory
        .load()
        .unwrap()
        .current()
        .explain("bot.workers")
        .unwrap()
        .origin;
    assert_eq!(
        origin.to_string(),
        "override by anna at 2026-11-22T10:00:00Z until 1970-01-01T00:01:40Z: sale"
    );
    clock.to(100);
    assert_eq!(directory.bot().workers, 4);
}

#[test]
fn what_is_on_trial_in_the_file_does_not_count_at_a_start() {
    let (directory, _) = directory();
    let (kept, trial) = ([one("bot.workers", json!(5))], [one("bot.workers", json!(64))]);
    write(&directory, &json!({ "version": 1, "overrides": kept, "trial": trial }));
    assert_eq!(directory.bot().workers, 5);
}

#[test]
fn they_are_checked_as_all_other_values_and_secrets_stay_hidden() {
    let (directory, _) = directory();
    let overrides = [
        one("bot.workers", json!("hunter1")),
        one("bot.pasword", json!("hunter2")),
        one("bot.password", json!(["hunter3"])),
        one("platform.config.database", json!("x:")),
        one("bot..x", json!(1)),
    ];
    write(&directory, &json!({ "version": 1, "overrides": overrides }));
    let report = directory.report();
    for part in [
        "override by anna at 2026-11-22T10:00:00Z: bot.workers: found the text \"hunter1\", expected a whole number",
        "bot.pasword: unknown key `pasword`\n     = help: did you mean `password`?",
        "bot.password: ",
        "`platform.config` can't be set by an override: it is read before it",
        "bot..x: not a dotted key",
        "5 faults",
    ] {
        assert!(report.contains(part), "no {part} in:\n{report}");
    }
    assert!(!report.contains("hunter2") && !report.contains("hunter3"), "{report}");
}

#[test]
fn a_broken_file_is_one_clear_fault() {
    let (directory, _) = directory();
    let told = |text: &str| {
        fs::write(directory.path.join(FILE), text).unwrap();
        directory.report()
    };
    for (text, part) in [
        (
            "",
            "are broken: line 1: no JSON\n     = help: mend it, or put it aside: without it there are no overrides",
        ),
        (
            "{\"version\": 1, \"overrides\": [{\"key\": \"hunter\"",
            "line 1: no JSON",
        ),
        (
            "{\"version\": 1, \"overrides\": [\"hunter\"]}",
            "line 1: not what this program writes",
        ),
        (
            "{\"version\": 7}",
            "newer version of this program (format 7, this one knows 1)",
        ),
    ] {
        let report = told(text);
        assert!(
            report.contains(part) && report.contains("1 fault"),
            "no {part} in:\n{report}"
        );
        assert!(!report.contains("hunter"), "{report}");
    }
}

#[test]
fn nothing_is_read_where_nothing_is_kept() {
    let (mut directory, _) = directory();
    write(
        &directory,
        &json!({ "version": 1, "overrides": [one("bot.workers", json!(12))] }),
    );
    directory.sources.kept = Overrides::default();
    assert_eq!(directory.bot().workers, 4);
}

/// A process that carries out reloads as the real one does, but for parts that follow.
struct Process {
    directory: Directory,
    clock: Set,
    manager: Arc<ConfigurationManager>,
    keeper: Arc<OverrideKeeper>,
    transactions: tokio::sync::Mutex<Transactions<'static>>,
}

/// A probation without end.
struct Undecided;

impl Proving for Undecided {
    fn begin(&self) -> Box<dyn Trial> {
        Box::new(Self)
    }
}

#[async_trait::async_trait]
impl Trial for Undecided {
    async fn verdict(&mut self, _: Duration) -> TrialVerdict {
        std::future::pending().await
    }
}

/// A part of the process that can't have nine workers.
struct Shop;

#[async_trait::async_trait]
impl LivePart for Shop {
    fn name(&self) -> &str {
        "shop"
    }

    async fn prepare(&mut self, proposal: &Proposal) -> Result<(), Refusal> {
        match proposal.next.typed::<Bot>("bot").unwrap().workers {
            9 => Err("nine is too many".to_owned().into()),
            _ => Ok(()),
        }
    }

    async fn apply(&mut self, _: &Proposal) -> Result<(), String> {
        Ok(())
    }

    async fn undo(&mut self, _: &Proposal) -> Result<(), String> {
        Ok(())
    }
}

impl Process {
    async fn start() -> Self {
        Self::with(Vec::new()).await
    }

    async fn with(parts: Vec<Box<dyn LivePart>>) -> Self {
        let (directory, clock) = directory();
        let sources = directory.sources.clone();
        let manager = ConfigurationManager::load(on_the_platform(), sources).await.unwrap();
        let manager = Arc::new(manager);
        let begun = OverrideKeeper::begin(&manager, &directory.path);
        let keeper = Arc::new(begun.unwrap().0);
        manager.observe(Arc::clone(&keeper) as Arc<dyn ChangeObserver>);
        manager.prove_with(Arc::new(Undecided));
        let transactions = Transactions::new(Arc::clone(&manager), Arc::new(clock.clone()), parts);
        Self {
            clock,
            manager,
            keeper,
            directory,
            transactions: transactions.into(),
        }
    }

    /// Changes, and carries out the reloads that are asked for meanwhile.
    async fn change(&self, change: OverrideChange) -> Result<ReloadOutcome, OverrideRefusal> {
        let reloads = async {
            loop {
                self.reload().await;
            }
        };
        tokio::select! {
            changed = self.keeper.change(&change, "anna") => changed,
            () = reloads => unreachable!(),
        }
    }

    async fn reload(&self) {
        let request = self.manager.requests().next().await;
        let mut transactions = self.transactions.lock().await;
        let outcome = transactions.reload(request.triggers.clone()).await.outcome;
        request.answer(&outcome);
    }

    async fn prove(&self) {
        self.transactions.lock().await.prove().await;
    }

    /// The workers that whoever reads the configuration in this process finds.
    async fn read_anew(&self) -> u32 {
        let sources = self.directory.sources.clone();
        let manager = ConfigurationManager::load(on_the_platform(), sources).await.unwrap();
        manager.current().typed::<Bot>("bot").unwrap().workers
    }

    fn workers(&self) -> u32 {
        self.manager.current().typed::<Bot>("bot").unwrap().workers
    }
}

fn set(key: &str, value: impl Into<Value>) -> OverrideChange {
    OverrideChange::Set {
        values: vec![(key.to_owned(), value.into())],
        until: None,
        why: None,
    }
}

fn unset(key: &str) -> OverrideChange {
    OverrideChange::Unset {
        keys: vec![key.to_owned()],
    }
}

#[tokio::test]
async fn a_change_is_on_trial_until_it_is_proven() {
    let process = Process::start().await;
    process.change(set("bot.workers", 8)).await.unwrap();
    assert_eq!(process.workers(), 8);
    let file = kept(&process.directory);
    assert_eq!(
        (&file["overrides"], &file["trial"][0]["value"]),
        (&json!([]), &json!(8)),
        "{file}"
    );
    assert_eq!(process.read_anew().await, 8, "whoever reads it in this process");
    process.prove().await;
    let file = kept(&process.directory);
    assert_eq!(
        (&file["overrides"][0]["value"], &file["trial"]),
        (&json!(8), &Value::Null),
        "{file}"
    );

    // Another value for the same key replaces the first one, and may be taken back.
    process.change(set("bot.workers", 9)).await.unwrap();
    process.prove().await;
    assert_eq!(kept(&process.directory)["overrides"].as_array().map(Vec::len), Some(1));
    process.change(unset("bot.workers")).await.unwrap();
    assert_eq!(process.workers(), 4);
    let file = kept(&process.directory);
    assert_eq!(
        (&file["overrides"][0]["value"], &file["trial"]),
        (&json!(9), &json!([])),
        "{file}"
    );
    process.prove().await;
    assert_eq!(kept(&process.directory), Value::Null, "no overrides, no file");
}

#[tokio::test]
async fn what_is_rejected_never_touches_the_file() {
    let process = Process::with(vec![Box::new(Shop)]).await;
    process.change(set("bot.workers", 8)).await.unwrap();
    process.prove().await;
    let path = process.directory.path.join(FILE);
    let before = (
        fs::read(&path).unwrap(),
        fs::metadata(&path).unwrap().modified().unwrap(),
    );
    for wrong in [
        set("bot.workers", 0),
        set("bot.wrokers", 1),
        set("platform.state_dir", "elsewhere"),
        unset("bot.replies"),
        OverrideChange::Unset { keys: Vec::new() },
    ] {
        process.change(wrong).await.unwrap_err();
        assert_eq!(
            (
                fs::read(&path).unwrap(),
                fs::metadata(&path).unwrap().modified().unwrap()
            ),
            before
        );
        assert_eq!(process.workers(), 8);
    }
    let refused = process.change(set("bot.workers", 9)).await.unwrap_err().to_string();
    assert!(refused.contains("refused by shop: nine is too many"), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), before.0);
    // The proposal is forgotten: the next reload is read without it.
    process.change(set("bot.pace", "fast")).await.unwrap();
    assert_eq!(process.workers(), 8);
}

#[tokio::test]
async fn what_fails_on_probation_is_taken_back_in_the_file_too() {
    let process = Process::start().await;
    process.change(set("bot.workers", 8)).await.unwrap();
    process.prove().await;
    let (before, proven) = (kept(&process.directory), process.manager.current());
    process.change(set("bot.workers", 9)).await.unwrap();
    process.change(set("bot.pace", "fast")).await.unwrap();
    assert_eq!(kept(&process.directory)["trial"].as_array().map(Vec::len), Some(2));
    let reason = "orders is unhealthy".to_owned();
    let conclusion = process.transactions.lock().await.take_back(reason).await;
    assert!(Arc::ptr_eq(&proven, &process.manager.current()), "{conclusion:?}");
    assert_eq!(kept(&process.directory), before);
    assert_eq!(process.read_anew().await, 8);
}

#[tokio::test]
async fn a_process_that_is_killed_on_trial_comes_back_without_it() {
    let process = Process::start().await;
    process.change(set("bot.workers", 8)).await.unwrap();
    process.prove().await;
    process.change(set("bot.workers", 9)).await.unwrap();
    // What a new process reads: nothing of this one's memory.
    let mut sources = process.directory.sources.clone();
    sources.kept = Overrides::by(Arc::new(process.clock.clone()));
    let next = ConfigurationManager::load(on_the_platform(), sources).await.unwrap();
    assert_eq!(next.current().typed::<Bot>("bot").unwrap().workers, 8);
    let begun = OverrideKeeper::begin(&Arc::new(next), &process.directory.path);
    let left: Vec<Override> = begun.unwrap().1;
    assert_eq!((left.len(), &left[0].value), (1, &json!(9)));
    assert_eq!(kept(&process.directory)["trial"], Value::Null);
}

#[tokio::test]
async fn a_process_that_is_asked_to_stop_keeps_what_is_on_trial() {
    let process = Process::start().await;
    process.change(set("bot.workers", 8)).await.unwrap();
    process.keeper.settle().await;
    let file = kept(&process.directory);
    assert_eq!(
        (&file["overrides"][0]["value"], &file["trial"]),
        (&json!(8), &Value::Null),
        "{file}"
    );
}

#[tokio::test]
async fn what_can_not_be_kept_does_not_run() {
    let process = Process::start().await;
    // A directory in its place: even root can't write the file then.
    fs::create_dir(process.directory.path.join("config-overrides.new")).unwrap();
    let refused = process.change(set("bot.workers", 8)).await.unwrap_err().to_string();
    assert!(refused.contains("can't be kept in"), "{refused}");
    assert_eq!(process.workers(), 4);
    fs::remove_dir(process.directory.path.join("config-overrides.new")).unwrap();
    process.change(set("bot.workers", 8)).await.unwrap();
    assert_eq!(process.workers(), 8);
}

#[tokio::test]
async fn a_change_has_bounds() {
    let process = Process::start().await;
    process.clock.to(100);
    let ending = |until, why: &str| OverrideChange::Set {
        values: vec![("bot.workers".into(), json!(1))],
        until: Some(at(until)),
        why: Some(why.into()),
    };
    for (change, told) in [
        (ending(100, ""), "1970-01-01T00:01:40Z has passed; name a later moment"),
        (ending(200, &"x".repeat(501)), "what it is for takes 500 characters"),
        (
            unset("bot.workers"),
            "there is no override of `bot.workers`; there are no overrides",
        ),
        (
            OverrideChange::Set {
                values: Vec::new(),
                until: None,
                why: None,
            },
            "name at least one key",
        ),
    ] {
        assert_eq!(process.change(change).await.unwrap_err().to_string(), told);
    }
    process.change(set("bot.workers", 1)).await.unwrap();
    let told = process.change(unset("bot.worker")).await.unwrap_err().to_string();
    assert_eq!(
        told,
        "there is no override of `bot.worker`; did you mean `bot.workers`?"
    );
    let values = (0..1_001).map(|number| (format!("bot.x{number}"), json!(1))).collect();
    let many = OverrideChange::Set {
        values,
        until: None,
        why: None,
    };
    assert!(matches!(process.change(many).await, Err(OverrideRefusal::TooMany)));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_one_asks_for_a_reload() {
    let process = Process::start().await;
    let ending = OverrideChange::Set {
        values: vec![("bot.workers".into(), json!(8))],
        until: Some(at(90)),
        why: None,
    };
    process.change(ending).await.unwrap();
    process.prove().await;
    let expiring = tokio::spawn(crate::config::overrides::expire(Arc::clone(&process.manager)));
    let asked = tokio::time::timeout(Duration::from_secs(89), process.manager.requests().next()).await;
    assert!(asked.is_err(), "it is not over yet");
    process.clock.to(90);
    let request = process.manager.requests().next().await;
    assert_eq!(
        request.triggers,
        [Trigger::Expired {
            key: "bot.workers".into()
        }]
    );
    drop(request);
    process.manager.requests().ask(Trigger::Signal);
    process.reload().await;
    assert_eq!(
        (process.workers(), kept(&process.directory)["trial"].clone()),
        (4, json!([]))
    );
    process.prove().await;
    assert_eq!(kept(&process.directory), Value::Null);
    expiring.abort();
}
