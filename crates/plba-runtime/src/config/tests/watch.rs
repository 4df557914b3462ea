//! Files that change while they are watched: every way to break one is told within two seconds with its place, and what runs
//! stays; every way to replace one is noticed. Files are real. Spans are measured on the paused clock, where files are looked
//! at by the clock; that the system's notices arrive is seen on the real one.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use plba_contracts::config::Origin;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::{Instant, sleep, timeout};

use super::super::read::watch::{FileWatch, Stamp, Watched, follow};
use super::*;

/// How soon a change must be told.
const SOON: Duration = Duration::from_secs(2);

/// How long a notice is waited for: less than the span after which is looked anyway.
const NOTICED: Duration = Duration::from_secs(20);

const GOOD: &str = "[bot]\nworkers = 5\n";

async fn manager(directory: &Directory) -> Arc<ConfigurationManager> {
    let loaded = ConfigurationManager::load((directory.definitions)(), directory.sources.clone());
    Arc::new(loaded.await.unwrap_or_else(|report| panic!("{report}")))
}

/// Reloads; the faults of a refusal, and its text.
async fn reloaded(manager: &Arc<ConfigurationManager>) -> Result<(), (Vec<ConfigFault>, String)> {
    match reload(manager).await {
        ReloadOutcome::Rejected { faults, reason, .. } => Err((faults, reason)),
        _ => Ok(()),
    }
}

fn watch(manager: &ConfigurationManager) -> FileWatch {
    let current = manager.current();
    let watched = manager.watched(current.settings());
    let seen = Stamp::of(current.sources(), &watched.secrets);
    FileWatch::new(watched, seen)
}

fn workers(manager: &ConfigurationManager) -> u32 {
    manager.current().typed::<Bot>("bot").unwrap().workers
}

/// Breaks a file, and what the report of it begins with.
type Broken = (&'static str, fn(&Path), &'static str);

fn overwrite(path: &Path, text: impl AsRef<[u8]>) {
    fs::write(path, text).unwrap();
}

/// As an editor does: another file takes its place.
fn replace(path: &Path, text: impl AsRef<[u8]>) {
    let beside = path.with_extension("tmp~");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

fn bomb() -> String {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        bomb += &format!(
            "a{level}: &a{level} [{}]\n",
            vec![format!("*a{}", level - 1); 10].join(", ")
        );
    }
    bomb
}

const BROKEN: [Broken; 16] = [
    (
        "half written",
        |path| overwrite(path, "[bot]\nworkers = "),
        "bot.toml:2:11: TOML: ",
    ),
    ("empty", |path| overwrite(path, ""), "bot.toml:1:1: the file is empty"),
    (
        "deleted",
        |path| fs::remove_file(path).unwrap(),
        "bot.toml:1:1: no such file",
    ),
    (
        "renamed by an editor",
        |path| replace(path, "[bot]\nworkers = 0\n"),
        "bot.toml:2:11: bot.workers: ",
    ),
    (
        "in Latin 1",
        |path| overwrite(path, b"[bot]\n# caf\xE9\n"),
        "bot.toml:2:6: not UTF-8 from here on",
    ),
    (
        "in UTF-16",
        |path| overwrite(path, b"\xFF\xFE[\0b\0"),
        "bot.toml:1:1: written in UTF-16",
    ),
    (
        "100 MB",
        |path| fs::File::create(path).unwrap().set_len(100_000_000).unwrap(),
        "bot.toml:1:1: larger than 1024 KiB",
    ),
    (
        "nested",
        |path| overwrite(path, format!("a = {}", "[".repeat(100_000))),
        "bot.toml:1:",
    ),
    (
        "a key twice",
        |path| overwrite(path, "[bot]\nworkers = 5\nworkers = 6\n"),
        "bot.toml:3:1: TOML: duplicate key",
    ),
    (
        "an unknown key",
        |path| overwrite(path, "[bot]\nworker = 5\n"),
        "bot.toml:2:1: bot.worker: unknown key",
    ),
    (
        "an alias bomb",
        |path| overwrite(&path.with_file_name("more.yaml"), bomb()),
        "more.yaml:5:",
    ),
    (
        "a link to nothing",
        |path| {
            fs::remove_file(path).unwrap();
            symlink("nothing.toml", path).unwrap();
        },
        "bot.toml:1:1: no such file",
    ),
    (
        "a directory",
        |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        },
        "bot.toml:1:1: a directory, where a file is expected",
    ),
    (
        "a device",
        |path| {
            fs::remove_file(path).unwrap();
            symlink("/dev/zero", path).unwrap();
        },
        "bot.toml:1:1: not a regular file",
    ),
    (
        "of the wrong type",
        |path| overwrite(path, "[bot]\nworkers = 'x'\n"),
        "bot.toml:2:11: bot.workers: ",
    ),
    (
        "another format",
        |path| overwrite(path, "bot:\n  workers: 5\n"),
        "bot.toml:1:",
    ),
];

/// A way to replace a file, by its name.
type Step<'a> = (&'static str, Box<dyn Fn() + 'a>);

/// Makes good what was broken.
fn mend(path: &Path) {
    let kind = fs::symlink_metadata(path).map(|metadata| metadata.is_dir());
    match kind {
        Ok(true) => fs::remove_dir(path).unwrap(),
        Ok(false) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
    overwrite(path, GOOD);
    overwrite(&path.with_file_name("more.yaml"), "bot: {pace: fast}\n");
}

#[tokio::test(start_paused = true)]
async fn failure_53_every_broken_file_is_told_within_two_seconds_with_its_place_and_what_runs_stays() {
    let directory = Directory::new()
        .file("bot.toml", GOOD)
        .file("more.yaml", "bot: {pace: fast}\n");
    let path = directory.path.join("bot.toml");
    let manager = manager(&directory).await;
    let mut watch = watch(&manager).without_notices();
    for (name, break_it, said) in BROKEN {
        let running = manager.current();
        break_it(&path);
        let began = Instant::now();
        let changed = timeout(SOON, watch.changed()).await;
        assert!(changed.is_ok(), "{name}: nothing was noticed");
        let (_, report) = reloaded(&manager).await.expect_err(name);
        assert!(began.elapsed() <= SOON, "{name}: told after {:?}", began.elapsed());
        let text = directory.relative(&report);
        assert!(text.starts_with(said), "{name}: {text}");
        assert!(Arc::ptr_eq(&running, &manager.current()), "{name}");
        mend(&path);
        assert!(
            timeout(SOON, watch.changed()).await.is_ok(),
            "{name}: that it is right again was not noticed"
        );
        reloaded(&manager)
            .await
            .unwrap_or_else(|(_, report)| panic!("{name}: {report}"));
        assert_eq!(workers(&manager), 5, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_reads_the_same_is_no_change() {
    let directory = Directory::new().file("bot.toml", GOOD).file("b.toml", "# nothing\n");
    let manager = manager(&directory).await;
    let path = directory.path.join("bot.toml");
    let mut watch = watch(&manager).without_notices();
    for touch in [|path: &Path| overwrite(path, GOOD), |path: &Path| replace(path, GOOD)] {
        touch(&path);
        fs::write(directory.path.join("other.toml"), "x").unwrap();
        assert!(timeout(Duration::from_secs(60), watch.changed()).await.is_err());
    }
    replace(&path, "[bot]\nworkers = 6\n");
    assert_eq!(watch.changed().await, path);
}

/// Writes without end are told all the same, and as few changes.
#[tokio::test(start_paused = true)]
async fn failure_57_a_thousand_writes_are_few_reloads_one_at_a_time_and_the_last_one_counts() {
    let directory = Directory::new().file("bot.toml", GOOD);
    let manager = manager(&directory).await;
    let path = directory.path.join("bot.toml");
    let mut watch = watch(&manager).without_notices();
    let writes = async {
        for number in 0..1_000_u32 {
            let text = format!("# {number}\n[bot]\nworkers = {}\n", number % 64 + 1);
            let half = if number % 3 == 0 { text.len() / 2 } else { text.len() };
            overwrite(&path, &text[..half]);
            sleep(Duration::from_millis(10)).await;
        }
        overwrite(&path, "[bot]\nworkers = 64\n");
    };
    let watching = async {
        loop {
            let path = watch.changed().await;
            manager.requests().ask(Trigger::File { path });
        }
    };
    let reloads = AtomicU32::new(0);
    let reloading = async {
        loop {
            let request = manager.requests().next().await;
            let _ = reloaded(&manager).await;
            reloads.fetch_add(1, Ordering::Relaxed);
            drop(request);
        }
    };
    let run = async {
        writes.await;
        let mut published = manager.subscribe();
        let last = |configuration: &Arc<Configuration>| configuration.typed::<Bot>("bot").unwrap().workers == 64;
        let told = timeout(SOON, published.wait_for(last)).await;
        assert!(told.is_ok(), "the last write is not what runs: {}", workers(&manager));
    };
    tokio::select! {
        () = run => {}
        () = watching => {}
        () = reloading => {}
    }
    let reloads = reloads.into_inner();
    assert!((2..=20).contains(&reloads), "{reloads} reloads");
}

/// The ways in which files are replaced, each of which must be noticed.
#[tokio::test]
async fn failure_57_the_system_gives_notice_of_every_way_to_replace_a_file() {
    let directory = Directory::new();
    let mount = directory.path.join("mount");
    let at = |name: &str| mount.join(name);
    fs::create_dir_all(at("..one/deep")).unwrap();
    fs::create_dir_all(directory.path.join("conf.d")).unwrap();
    overwrite(&at("..one/bot.toml"), GOOD);
    symlink("..one", at("..data")).unwrap();
    symlink("..data/bot.toml", at("bot.toml")).unwrap();
    let watched = Watched {
        files: vec![
            at("bot.toml"),
            directory.path.join("conf.d"),
            directory.path.join("absent/x.toml"),
        ],
        secrets: vec![directory.path.join("secrets")],
    };
    let seen = Stamp::read(&watched);
    let mut watch = FileWatch::new(watched, seen);
    assert!(timeout(Duration::from_millis(1), watch.changed()).await.is_err());
    let data = at("..data");
    let conf = directory.path.join("conf.d");
    let steps: Vec<Step<'_>> = vec![
        ("written in place", Box::new(|| overwrite(&at("..one/bot.toml"), "# 1"))),
        ("renamed", Box::new(|| replace(&at("..one/bot.toml"), "# 2"))),
        (
            "swapped by its link",
            Box::new(|| {
                fs::create_dir(at("..two")).unwrap();
                overwrite(&at("..two/bot.toml"), "# 3");
                symlink("..two", at("..data_tmp")).unwrap();
                fs::rename(at("..data_tmp"), &data).unwrap();
                fs::remove_dir_all(at("..one")).unwrap();
            }),
        ),
        (
            "written behind the new link",
            Box::new(|| overwrite(&at("..two/bot.toml"), "# 4")),
        ),
        ("deleted", Box::new(|| fs::remove_file(at("..two/bot.toml")).unwrap())),
        ("there again", Box::new(|| overwrite(&at("..two/bot.toml"), "# 5"))),
        (
            "another file in a directory",
            Box::new(|| overwrite(&conf.join("10.yaml"), "a: 1")),
        ),
        (
            "one less in a directory",
            Box::new(|| fs::remove_file(conf.join("10.yaml")).unwrap()),
        ),
        (
            "a directory gone",
            Box::new(|| {
                overwrite(&conf.join("20.toml"), "# 6");
                fs::rename(&conf, directory.path.join("conf.old")).unwrap();
            }),
        ),
        (
            "a directory there again",
            Box::new(|| {
                fs::create_dir(&conf).unwrap();
                overwrite(&conf.join("30.toml"), "# 7");
            }),
        ),
        (
            "written in the new directory",
            Box::new(|| overwrite(&conf.join("30.toml"), "# 8")),
        ),
        (
            "a file in a directory that was missing",
            Box::new(|| {
                fs::create_dir(directory.path.join("absent")).unwrap();
                overwrite(&directory.path.join("absent/x.toml"), "# 9");
            }),
        ),
        (
            "a directory of secrets",
            Box::new(|| {
                fs::create_dir(directory.path.join("secrets")).unwrap();
                overwrite(&directory.path.join("secrets/bot.password"), "one");
            }),
        ),
        (
            "a secret",
            Box::new(|| replace(&directory.path.join("secrets/bot.password"), "two")),
        ),
    ];
    for (name, step) in steps {
        step();
        let changed = timeout(NOTICED, watch.changed()).await;
        assert!(changed.is_ok(), "{name}: not noticed");
    }
}

#[tokio::test]
async fn a_change_is_a_request_while_the_configuration_has_files_watched() {
    let mut directory = Directory::new();
    directory.definitions = on_the_platform;
    let directory = directory.file("bot.toml", "[bot]\nworkers = 5\n");
    let manager = manager(&directory).await;
    let path = directory.path.join("bot.toml");
    // From between its reading and the begin of the watch.
    overwrite(&path, "[bot]\nworkers = 6\n");
    let following = tokio::spawn(follow(Arc::clone(&manager)));
    let request = timeout(NOTICED, manager.requests().next()).await.unwrap();
    assert_eq!(request.triggers, [Trigger::File { path: path.clone() }]);
    drop(request);
    overwrite(&path, "[platform.config]\nwatch = false\n");
    drop(timeout(NOTICED, manager.requests().next()).await.unwrap());
    reloaded(&manager).await.unwrap();
    overwrite(&path, "[bot]\nworkers = 7\n");
    let asked = timeout(Duration::from_millis(1_500), manager.requests().next()).await;
    assert!(asked.is_err(), "nobody watches");
    following.abort();
}

#[tokio::test(start_paused = true)]
async fn failure_58_a_secret_that_can_not_be_read_is_told_and_the_last_good_one_stays() {
    let mut directory = Directory::new();
    directory.definitions = on_the_platform;
    let secrets = directory.path.join("secrets");
    fs::create_dir(&secrets).unwrap();
    let password = secrets.join("bot.password");
    overwrite(&password, "hunter2");
    let directory = directory.file("a.toml", "[platform.config]\nsecrets = 'secrets'\n");
    let manager = manager(&directory).await;
    let mut watch = watch(&manager).without_notices();
    let exposed = || {
        let bot = manager.current().typed::<Bot>("bot").unwrap();
        bot.password.as_ref().map(|password| password.expose().to_owned())
    };
    replace(&password, "hunter3");
    assert_eq!(timeout(SOON, watch.changed()).await.as_ref(), Ok(&password));
    reloaded(&manager).await.unwrap();
    assert_eq!(exposed().as_deref(), Some("hunter3"));
    for broken in [
        |path: &Path| overwrite(path, b"\xFF\xFEhunter4"),
        |path: &Path| {
            fs::remove_file(path).unwrap();
            symlink("/nowhere", path).unwrap();
        },
    ] {
        broken(&password);
        let began = Instant::now();
        assert_eq!(timeout(SOON, watch.changed()).await.as_ref(), Ok(&password));
        let (faults, report) = reloaded(&manager).await.unwrap_err();
        assert!(began.elapsed() <= SOON);
        let [fault] = faults.as_slice() else { panic!("{report}") };
        assert!(
            matches!(&fault.origin, Some(Origin::File { path, .. }) if *path == password),
            "{report}"
        );
        assert!(!report.contains("hunter"), "{report}");
        assert_eq!(exposed().as_deref(), Some("hunter3"));
    }
    fs::remove_dir_all(&secrets).unwrap();
    assert!(timeout(SOON, watch.changed()).await.is_ok());
    let (_, report) = reloaded(&manager).await.unwrap_err();
    assert!(report.contains("the directory of secrets can't be read"), "{report}");
    assert_eq!(exposed().as_deref(), Some("hunter3"));
}

const CHILD: &str = "PLBA_WATCH_CHILD";

/// Limits are those of a process, so another one has them.
#[test]
fn failure_57_without_notices_files_are_looked_at_and_without_file_descriptors_what_runs_stays() {
    let name = "config::tests::watch::in_a_process_without_file_descriptors";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("seen to the end"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn in_a_process_without_file_descriptors() {
    if std::env::var(CHILD).is_err() {
        return;
    }
    let directory = Directory::new().file("bot.toml", GOOD);
    let manager = manager(&directory).await;
    let path = directory.path.join("bot.toml");
    let mut watch = watch(&manager);
    // What writes to the file is open already.
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let mut write = |text: &str| {
        use std::io::{Seek, Write};
        file.set_len(0).unwrap();
        file.rewind().unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(64),
            maximum: hard,
        },
    )
    .unwrap();
    let mut held: Vec<fs::File> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
    // One is left: enough to read a file, too few for notices.
    held.pop();
    write("[bot]\nworkers = 6\n");
    assert!(
        timeout(SOON, watch.changed()).await.is_ok(),
        "without notices nothing was noticed"
    );
    reloaded(&manager)
        .await
        .unwrap_or_else(|(_, report)| panic!("{report}"));
    assert_eq!(workers(&manager), 6);
    // None is left.
    held.extend(fs::File::open("/dev/null"));
    write("[bot]\nworkers = 7\n");
    assert!(
        timeout(SOON, watch.changed()).await.is_ok(),
        "that nothing can be read is a change"
    );
    let report = directory.relative(&reloaded(&manager).await.unwrap_err().1);
    assert!(
        report.starts_with("bot.toml:1:1: ") && report.contains("Too many open files"),
        "{report}"
    );
    assert_eq!(workers(&manager), 6);
    held.clear();
    assert!(
        timeout(SOON, watch.changed()).await.is_ok(),
        "that it can be read again is a change"
    );
    reloaded(&manager)
        .await
        .unwrap_or_else(|(_, report)| panic!("{report}"));
    assert_eq!(workers(&manager), 7);
    eprintln!("seen to the end");
}
