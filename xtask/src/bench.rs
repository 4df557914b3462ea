//! `cargo xtask bench`: runs the benches and gathers what they measured beside their peers. The benches are a workspace
//! of their own, in `benches/`; each appends its results, one JSON object a line, to the file that
//! `PLBA_BENCH_RESULTS` names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::{Outcome, Stop, cargo};

const RESULTS: &str = "PLBA_BENCH_RESULTS";
const COLUMNS: [&str; 7] = ["name", "value", "unit", "peer", "peer_value", "ratio", "goal"];
/// What a bench takes besides its name, and how many words follow.
const OPTIONS: [(&str, &str, usize); 2] = [("queues", "--million", 0), ("queues", "--backend", 1)];

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let request = Request::parse(arguments)?;
    let manifest = cargo::root().join("benches").join("Cargo.toml");
    if !manifest.is_file() {
        return Err(Stop::Failed(format!(
            "there are no benches: {} is missing",
            manifest.display()
        )));
    }
    let metadata = cargo::metadata(&manifest)?;
    let targets = targets(&metadata);
    let chosen = request.choose(&targets)?;
    let file = PathBuf::from(metadata["target_directory"].as_str().unwrap_or("benches/target")).join("results.jsonl");
    let mut results = Vec::new();
    for target in &chosen {
        eprintln!("bench {}", target.name);
        results.extend(measure(target, &request.options_of(&target.name), &manifest, &file)?);
    }
    if request.json {
        results.iter().for_each(|result| println!("{}", object(result)));
    } else {
        print!("{}", table(&results));
    }
    Ok(())
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    names: Vec<String>,
    json: bool,
    /// Words for a bench itself, after its name.
    options: Vec<(&'static str, Vec<String>)>,
}

impl Request {
    fn parse(arguments: &[String]) -> Result<Request, Stop> {
        let mut request = Request {
            names: Vec::new(),
            json: false,
            options: Vec::new(),
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            if !word.starts_with('-') {
                request.names.push(word.clone());
            } else if word == "--json" {
                request.json = true;
            } else {
                request.option(word, &mut words)?;
            }
        }
        let for_another = |(bench, _): &&(&str, Vec<String>)| !request.names.is_empty() && !request.wants(bench);
        match request.options.iter().find(for_another) {
            Some((bench, words)) => Err(Stop::Usage(format!("`{}` is for the bench `{bench}`", words.join(" ")))),
            None => Ok(request),
        }
    }

    fn option<'a>(&mut self, word: &str, rest: &mut impl Iterator<Item = &'a String>) -> Result<(), Stop> {
        let Some((bench, _, more)) = OPTIONS.iter().find(|(_, name, _)| *name == word) else {
            return Err(Stop::Usage(format!("`bench` has no option `{word}`")));
        };
        let mut words = vec![word.to_owned()];
        words.extend(rest.take(*more).cloned());
        if words.len() <= *more {
            return Err(Stop::Usage(format!("`{word}` takes a name")));
        }
        self.options.push((bench, words));
        Ok(())
    }

    fn wants(&self, bench: &str) -> bool {
        self.names.iter().any(|name| name == bench)
    }

    fn options_of(&self, bench: &str) -> Vec<String> {
        let own = self.options.iter().filter(|(of, _)| *of == bench);
        own.flat_map(|(_, words)| words.clone()).collect()
    }

    /// The targets to run: those named, or all.
    fn choose(&self, targets: &[Target]) -> Result<Vec<Target>, Stop> {
        let find = |name: &String| {
            targets
                .iter()
                .find(|target| target.name == *name)
                .cloned()
                .ok_or_else(|| {
                    let known: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
                    Stop::Usage(format!("there is no bench `{name}`; there are: {}", known.join(", ")))
                })
        };
        if self.names.is_empty() {
            return Ok(targets.to_vec());
        }
        self.names.iter().map(find).collect()
    }
}

/// A bench, and the package whose dependencies it is built with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    name: String,
    package: String,
}

/// The bench targets of the workspace, in the order of names.
fn targets(metadata: &Value) -> Vec<Target> {
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let is_bench = |target: &&Value| {
            let kinds = target["kind"].as_array();
            kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "bench"))
        };
        let benches = package["targets"].as_array().into_iter().flatten().filter(is_bench);
        found.extend(benches.filter_map(|target| {
            Some(Target {
                name: target["name"].as_str()?.to_owned(),
                package: package["name"].as_str()?.to_owned(),
            })
        }));
    }
    found.sort();
    found
}

/// Runs one target; what it prints goes to standard error, so that standard output holds results only.
fn measure(target: &Target, options: &[String], manifest: &Path, file: &Path) -> Result<Vec<Value>, Stop> {
    let Target { name, package } = target;
    let failed = |reason: String| Stop::Failed(format!("bench {name}: {reason}"));
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory).map_err(|error| failed(error.to_string()))?;
    }
    // Truncated, so that every line found afterwards is this run's.
    fs::write(file, "").map_err(|error| failed(error.to_string()))?;
    let status = cargo::command(&["bench", "--package", package, "--bench", name, "--manifest-path"])
        .arg(manifest)
        .arg("--")
        .args(options)
        .env(RESULTS, file)
        .stdout(Stdio::from(io::stderr()))
        .status()
        .map_err(|error| failed(format!("could not run cargo: {error}")))?;
    if !status.success() {
        return Err(failed(format!("ended with {status}")));
    }
    let text = fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    parse(&text).map_err(failed)
}

/// Reads results, one JSON object a line. None at all is a fault: a bench that says nothing measures nothing.
fn parse(text: &str) -> Result<Vec<Value>, String> {
    let mut results = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let result: Value = serde_json::from_str(line).map_err(|error| format!("wrote `{line}`: {error}"))?;
        if let Some(column) = COLUMNS.iter().find(|column| result.get(**column).is_none()) {
            return Err(format!("wrote `{line}`, which has no `{column}`"));
        }
        results.push(result);
    }
    if results.is_empty() {
        Err(format!("wrote no result to the file that {RESULTS} names"))
    } else {
        Ok(results)
    }
}

/// A result on one line, in the order of the columns.
fn object(result: &Value) -> String {
    let fields = COLUMNS.map(|column| format!("{}:{}", Value::from(column), result[column]));
    format!("{{{}}}", fields.join(","))
}

fn table(results: &[Value]) -> String {
    let mut rows = vec![COLUMNS.map(|column| column.replace('_', " "))];
    rows.extend(results.iter().map(|result| COLUMNS.map(|column| cell(&result[column]))));
    let widths: [usize; COLUMNS.len()] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => number.as_f64().map_or_else(String::new, rounded),
        other => other.to_string(),
    }
}

/// Large figures without fraction, in groups of three digits.
fn rounded(value: f64) -> String {
    if value.abs() < 1_000.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        let behind = digits.len() - place;
        if place > 0 && behind.is_multiple_of(3) && digits.as_bytes()[place - 1] != b'-' {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LINE: &str = r#"{"name":"task","value":210.456,"unit":"ns","peer":"bare loop","peer_value":1234567.8,"ratio":2.10456,"goal":null}"#;

    fn request(line: &str) -> Request {
        Request::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    fn target(name: &str) -> Target {
        Target {
            name: name.to_owned(),
            package: "benches".to_owned(),
        }
    }

    #[test]
    fn all_targets_run_unless_some_are_named() {
        let targets = [target("task"), target("workers")];
        assert_eq!(request("--json").choose(&targets).unwrap(), targets);
        assert_eq!(request("workers --json").choose(&targets).unwrap(), [target("workers")]);
        let unknown = request("wrokers").choose(&targets);
        assert!(matches!(unknown, Err(Stop::Usage(reason)) if reason.contains("there are: task, workers")));
    }

    #[test]
    fn options_go_to_the_bench_that_knows_them() {
        let asked = request("queues --backend redis --million --json");
        assert_eq!(asked.options_of("queues"), ["--backend", "redis", "--million"]);
        assert!(asked.json && asked.options_of("workers").is_empty());
        for line in ["workers --million", "--backend", "--fast"] {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert!(matches!(Request::parse(&words), Err(Stop::Usage(_))), "{line}");
        }
    }

    #[test]
    fn bench_targets_are_found_in_the_metadata() {
        let metadata = json!({"packages": [{"name": "benches", "targets": [
            {"name": "workers", "kind": ["bench"]}, {"name": "lib", "kind": ["lib"]}, {"name": "task", "kind": ["bench"]},
        ]}]});
        assert_eq!(targets(&metadata), [target("task"), target("workers")]);
    }

    #[test]
    fn results_are_read_and_laid_out() {
        let results = parse(&format!("{LINE}\n\n")).unwrap();
        let expected = "\
name  value   unit  peer       peer value  ratio  goal
task  210.46  ns    bare loop  1,234,568   2.10   -
";
        assert_eq!(table(&results), expected);
        assert_eq!(object(&results[0]), LINE);
    }

    #[test]
    fn a_bench_that_says_nothing_or_nonsense_is_a_fault() {
        for (text, part) in [
            ("", "wrote no result"),
            ("fast", "wrote `fast`"),
            (r#"{"name":"x"}"#, "no `value`"),
        ] {
            assert!(parse(text).is_err_and(|reason| reason.contains(part)), "{text}");
        }
    }
}
