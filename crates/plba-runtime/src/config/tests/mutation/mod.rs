//! Mutated and cut files of all three formats: never a panic, and nothing is applied that was not written. What is accepted is
//! what a second reading by another parser says; what is refused is refused with a place in the file.
//!
//! The test run takes a few thousand; `PLBA_CONFIGURATIONS=100000` takes as many as one likes, and `cargo xtask fuzz
//! configuration` as many as there is time for, with the same code. Every file follows from the seed and its number.

mod mutate;
mod second;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use plba_contracts::config::{Origin, TimeSpan};
use serde_json::{Value, json};

use super::super::read::reader::Reader;
use super::super::read::reader::tests_support::assemble_by;
use super::*;

const TARGET: &str = "PLBA_FUZZ_TARGET";
const SECONDS: &str = "PLBA_FUZZ_SECONDS";
const SEED: &str = "PLBA_FUZZ_SEED";
const REPLAY: &str = "PLBA_FUZZ_REPLAY";
const COUNT: &str = "PLBA_CONFIGURATIONS";

/// How many files the test run takes.
const SHORT: u64 = 6_000;
/// The longest that one file may take, in a debug build on a busy machine.
const SLOW: Duration = Duration::from_secs(20);

/// After how many failures a run ends.
const ENOUGH: u64 = 20;

/// Everything that types of sections are made of. No paths: those are resolved, and this is about reading.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Shop {
    workers: u32,
    name: String,
    ratio: f64,
    open: bool,
    pace: Option<Pace>,
    pause: TimeSpan,
    password: Option<Secret>,
    replies: Replies,
    rules: Vec<Rule>,
    limits: BTreeMap<String, i64>,
    words: Vec<String>,
    any: Value,
}

impl Default for Shop {
    fn default() -> Self {
        Self {
            workers: 4,
            name: "shop".to_owned(),
            ratio: 0.5,
            open: true,
            pace: None,
            pause: TimeSpan::seconds(1),
            password: None,
            replies: Replies::default(),
            rules: Vec::new(),
            limits: BTreeMap::new(),
            words: Vec::new(),
            any: Value::Null,
        }
    }
}

impl ConfigSection for Shop {
    fn validate(&self, faults: &mut Faults) {
        faults.require(
            (1..=64).contains(&self.workers),
            "workers",
            "1 to 64 workers are possible",
        );
    }
}

/// What a whole file is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Whole {
    shop: Shop,
    platform: Process,
}

fn declared() -> Vec<SectionDefinition> {
    vec![
        SectionDefinition::new::<Process>("platform"),
        SectionDefinition::new::<Shop>("shop"),
    ]
}

/// A file and the reader of it.
struct Target {
    path: PathBuf,
    reader: Reader,
}

impl Target {
    fn new(directory: &Directory, name: &str) -> Self {
        let path = directory.path.join(name);
        let sources = ConfigurationSources {
            files: vec![path.clone()],
            ..ConfigurationSources::default()
        };
        Self {
            path,
            reader: Reader::new(declared(), sources),
        }
    }

    /// Reads these bytes as the file; says in a word what became of them.
    fn run(&self, bytes: &[u8]) -> &'static str {
        fs::write(&self.path, bytes).unwrap();
        match assemble_by(&self.reader) {
            Ok(configuration) => {
                drop((configuration.show().to_string(), configuration.origins()));
                self.compare(bytes, &configuration)
            }
            Err(report) => {
                let text = String::from_utf8_lossy(bytes);
                self.placed(&report, &text);
                // A mutation may well move the secret to another key, but what can't be read must not show it.
                let unread = report.faults.iter().all(|fault| fault.kind == ConfigFaultKind::Syntax);
                let printed = report.to_string();
                assert!(!unread || !printed.contains("hunter2"), "{printed}\n---\n{text}");
                "refused"
            }
        }
    }

    /// What was accepted is what was written.
    fn compare(&self, bytes: &[u8], configuration: &Configuration) -> &'static str {
        let text = std::str::from_utf8(bytes).unwrap();
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        let read = configuration
            .layers
            .first()
            .map(|layer| layer.value())
            .unwrap_or_default();
        let expected = match second::read(&self.path, text) {
            Ok(expected) => expected,
            // Its grammar is another one; that ours takes more is no wrong value.
            Err(_) => return "accepted, not by the other parser",
        };
        assert_eq!(read, expected, "read otherwise by another parser:\n{text}");
        let whole: Whole = serde_json::from_value(expected).unwrap_or_else(|error| panic!("{error}:\n{text}"));
        let shop = configuration.typed::<Shop>("shop").unwrap();
        let password = |shop: &Shop| shop.password.as_ref().map(|secret| secret.expose().to_owned());
        assert_eq!(password(&shop), password(&whole.shop), "\n{text}");
        assert_eq!(json!(*shop), json!(whole.shop), "\n{text}");
        let platform = configuration.typed::<Process>("platform").unwrap();
        assert_eq!(json!(*platform), json!(whole.platform), "\n{text}");
        "accepted"
    }

    /// Every fault says where in the file it is.
    fn placed(&self, report: &ConfigReport, text: &str) {
        assert!(!report.faults.is_empty());
        let lines = u32::try_from(text.matches('\n').count()).unwrap() + 1;
        for fault in &report.faults {
            let Some(Origin::File { path, line, column }) = &fault.origin else {
                panic!("no place in the file: {fault}\n---\n{text}");
            };
            assert!(
                *path == self.path && (1..=lines).contains(line) && *column >= 1,
                "{fault}\n---\n{text}"
            );
            assert!(
                fault.excerpt.as_ref().is_none_or(|excerpt| excerpt.line == *line),
                "{fault}"
            );
            assert!(!fault.message.is_empty() && !fault.message.contains('\n'), "{fault:?}");
        }
    }
}

/// How long a run goes on.
#[derive(Clone, Copy)]
enum Until {
    Files(u64),
    Time(Instant),
}

#[test]
fn failure_53_no_mutated_or_cut_file_panics_or_is_applied_wrongly() {
    let count = std::env::var(COUNT).ok().map(|text| text.parse().unwrap());
    let seed = std::env::var(SEED).ok().map(|text| text.parse().unwrap());
    let told = run(
        seed.unwrap_or_else(|| fastrand::u64(..)),
        Until::Files(count.unwrap_or(SHORT)),
    );
    for format in mutate::NAMES {
        let of = |word: &str| told.get(&(format, word.to_owned())).copied().unwrap_or_default();
        let (accepted, alone, refused) = (of("accepted"), of("accepted, not by the other parser"), of("refused"));
        assert!(
            accepted > refused / 20,
            "{format}: too few are right for this to say anything: {told:?}"
        );
        assert!(
            refused > accepted / 20,
            "{format}: too few are wrong for this to say anything: {told:?}"
        );
        assert!(
            alone < accepted / 10,
            "{format}: the other parser says too little: {told:?}"
        );
    }
}

/// What `cargo xtask fuzz configuration` runs; without its variables there is nothing to do.
#[test]
fn what_the_command_asks_for() {
    if std::env::var(TARGET).as_deref() != Ok("configuration") {
        return;
    }
    if let Ok(file) = std::env::var(REPLAY) {
        let directory = Directory::new();
        let name = Path::new(&file).extension().and_then(|extension| extension.to_str());
        let name = mutate::NAMES.into_iter().find(|known| known.rsplit('.').next() == name);
        let target = Target::new(&directory, name.expect("a file named .toml, .yaml or .json"));
        eprintln!("configuration: {file}: {}", target.run(&fs::read(&file).unwrap()));
        return;
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let end = Instant::now() + Duration::from_secs(number(SECONDS).unwrap_or(60));
    run(number(SEED).unwrap_or_else(|| fastrand::u64(..)), Until::Time(end));
}

/// Runs files of all formats in turn; how often what became of them, by format.
fn run(seed: u64, until: Until) -> BTreeMap<(&'static str, String), u64> {
    eprintln!("configuration: seed {seed}");
    let directory = Directory::new();
    let targets = mutate::NAMES.map(|name| Target::new(&directory, name));
    let began = Instant::now();
    let (mut number, mut slowest) = (0, Duration::ZERO);
    let mut told = BTreeMap::new();
    let mut failed = 0;
    loop {
        let over = match until {
            Until::Files(most) => number >= most,
            Until::Time(end) => Instant::now() >= end,
        };
        if over || failed >= ENOUGH {
            break;
        }
        let format = usize::try_from(number % 3).unwrap();
        let bytes = mutate::file(format, seed, number);
        let before = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| targets[format].run(&bytes)));
        let took = before.elapsed();
        slowest = slowest.max(took);
        match result {
            Ok(word) if took <= SLOW => *told.entry((mutate::NAMES[format], word.to_owned())).or_default() += 1,
            other => {
                let why = if other.is_ok() { "took too long" } else { "failed" };
                let file =
                    std::env::temp_dir().join(format!("plba-configuration-{seed}-{number}-{}", mutate::NAMES[format]));
                fs::write(&file, &bytes).unwrap();
                eprintln!(
                    "file {number} of seed {seed} {why} after {took:?}; it is kept in {}",
                    file.display()
                );
                failed += 1;
            }
        }
        number += 1;
    }
    let rate = number as f64 / began.elapsed().as_secs_f64();
    eprintln!("configuration: {number} files, {rate:.0} a second, the slowest {slowest:?}; {told:?}");
    assert_eq!(
        failed, 0,
        "files failed, see above; cargo xtask fuzz configuration --replay FILE"
    );
    told
}

#[test]
fn failure_53_a_file_cut_after_any_byte_is_refused_with_its_place_or_read_as_far_as_it_goes() {
    let directory = Directory::new();
    for (format, name) in mutate::NAMES.into_iter().enumerate() {
        let target = Target::new(&directory, name);
        let whole = mutate::SEEDS[format].as_bytes();
        assert_eq!(target.run(whole), "accepted", "{name}");
        for end in 0..whole.len() {
            target.run(&whole[..end]);
        }
    }
}
