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
const COLUMNS: [&str; 6] = ["name", "value", "unit", "peer", "peer_value", "ratio"];

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
    let chosen = request.choose(&targets(&metadata))?;
    let file = PathBuf::from(metadata["target_directory"].as_str().unwrap_or("benches/target")).join("results.jsonl");
    let mut results = Vec::new();
    for name in &chosen {
        eprintln!("bench {name}");
        results.extend(measure(name, &manifest, &file)?);
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
}

impl Request {
    fn parse(arguments: &[String]) -> Result<Request, Stop> {
        let (options, names): (Vec<&String>, Vec<&String>) =
            arguments.iter().partition(|argument| argument.starts_with('-'));
        if let Some(unknown) = options.iter().find(|option| **option != "--json") {
            return Err(Stop::Usage(format!("`bench` has no option `{unknown}`")));
        }
        Ok(Request {
            names: names.into_iter().cloned().collect(),
            json: !options.is_empty(),
        })
    }

    /// The targets to run: those named, or all.
    fn choose(&self, targets: &[String]) -> Result<Vec<String>, Stop> {
        if let Some(unknown) = self.names.iter().find(|name| !targets.contains(name)) {
            let known = targets.join(", ");
            return Err(Stop::Usage(format!(
                "there is no bench `{unknown}`; there are: {known}"
            )));
        }
        Ok(if self.names.is_empty() {
            targets.to_vec()
        } else {
            self.names.clone()
        })
    }
}

/// The bench targets of the workspace, in the order of names.
fn targets(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let targets = packages.flat_map(|package| package["targets"].as_array().into_iter().flatten());
    let mut names: Vec<String> = targets
        .filter(|target| {
            target["kind"]
                .as_array()
                .is_some_and(|kinds| kinds.iter().any(|kind| kind == "bench"))
        })
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// Runs one target; what it prints goes to standard error, so that standard output holds results only.
fn measure(name: &str, manifest: &Path, file: &Path) -> Result<Vec<Value>, Stop> {
    let failed = |reason: String| Stop::Failed(format!("bench {name}: {reason}"));
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory).map_err(|error| failed(error.to_string()))?;
    }
    // Truncated, so that every line found afterwards is this run's.
    fs::write(file, "").map_err(|error| failed(error.to_string()))?;
    let status = cargo::command(&["bench", "--bench", name, "--manifest-path"])
        .arg(manifest)
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
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map_or_else(String::new, |value| format!("{value:.2}"))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LINE: &str =
        r#"{"name":"task","value":210.456,"unit":"ns","peer":"bare loop","peer_value":100,"ratio":2.10456}"#;

    fn request(line: &str) -> Request {
        Request::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn all_targets_run_unless_some_are_named() {
        let targets = ["task".to_owned(), "workers".to_owned()];
        assert_eq!(request("--json").choose(&targets).unwrap(), targets);
        assert_eq!(request("workers --json").choose(&targets).unwrap(), ["workers"]);
        let unknown = request("wrokers").choose(&targets);
        assert!(matches!(unknown, Err(Stop::Usage(reason)) if reason.contains("there are: task, workers")));
    }

    #[test]
    fn bench_targets_are_found_in_the_metadata() {
        let metadata = json!({"packages": [{"targets": [
            {"name": "workers", "kind": ["bench"]}, {"name": "lib", "kind": ["lib"]}, {"name": "task", "kind": ["bench"]},
        ]}]});
        assert_eq!(targets(&metadata), ["task", "workers"]);
    }

    #[test]
    fn results_are_read_and_laid_out() {
        let results = parse(&format!("{LINE}\n\n")).unwrap();
        let expected = "\
name  value   unit  peer       peer value  ratio
task  210.46  ns    bare loop  100         2.10
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
