//! Commands about the configuration that runs: what it is, what a reload would change, and overrides. A process that runs is
//! asked; without one, what the next start would read is told and changed in the state directory.

use std::path::Path;

use plba_contracts::clock::Clock;
use plba_contracts::control::{Caller, ControlError, Parameters, Role};
use plba_runtime::audit::AuditLog;
use plba_runtime::blueprint::Launch;
use plba_runtime::clock::SystemClock;
use plba_runtime::config::change::HistoryEntry;
use plba_runtime::config::control::{self, ConfigActed, OverrideView, ReloadPreview};
use plba_runtime::config::overrides::{self, OverrideChange, OverrideRefusal};
use plba_runtime::config::{Explanation, Shown, Whereabouts};
use plba_runtime::state::{Owner, StateDirectory, StateError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::arguments::ConfigCommand;
use super::{Failure, ask, block_on, draw, print, settings, whereabouts};

/// Does what was asked for.
pub(super) fn obey(launch: &Launch, what: ConfigCommand, json: bool) -> Result<(), Failure> {
    match what {
        ConfigCommand::Schema => settings::schema(launch),
        ConfigCommand::Default => settings::default(launch),
        ConfigCommand::Show { on_disk } => show(launch, on_disk, json),
        ConfigCommand::Explain { key, on_disk } => explain(launch, &key, on_disk, json),
        ConfigCommand::Diff => diff(launch, json),
        ConfigCommand::History { limit } => history(launch, limit, json),
        ConfigCommand::Overrides => list(launch, json),
        ConfigCommand::Set {
            values,
            span,
            until,
            why,
        } => {
            let given = [("for", span), ("until", until), ("why", why)];
            let given = given
                .into_iter()
                .filter_map(|(name, text)| Some((name.to_owned(), json!(text?))));
            let mut parameters: Parameters = given.collect();
            parameters.insert("values".into(), json!(values));
            change(launch, "config.set", parameters, json)
        }
        ConfigCommand::Unset { keys } => {
            let parameters = Parameters::from_iter([("keys".to_owned(), json!(keys))]);
            change(launch, "config.unset", parameters, json)
        }
        ConfigCommand::Reload => {
            let place = whereabouts(launch)?;
            let owner = StateDirectory::owner(&place.state_dir);
            let owner = owner.ok_or_else(|| ask::not_running(&launch.application, &place))?;
            acted(&asked(&place, owner, "config.reload", true, Parameters::new())?, json)
        }
    }
}

/// Asks the process that runs. What it refuses is as wrong as what is wrong here.
fn asked(
    place: &Whereabouts,
    owner: Owner,
    name: &str,
    changes: bool,
    parameters: Parameters,
) -> Result<Value, Failure> {
    ask::called(place, owner, name, changes, parameters)?.map_err(|error| match error {
        ControlError::Invalid(message) => Failure::usage(message),
        error => Failure::new(error),
    })
}

/// The process that runs, unless what is on disk was asked for.
fn running(launch: &Launch, on_disk: bool) -> Result<Option<(Whereabouts, Owner)>, Failure> {
    if on_disk {
        return Ok(None);
    }
    let place = whereabouts(launch)?;
    let owner = StateDirectory::owner(&place.state_dir).filter(|owner| !owner.passing);
    Ok(owner.map(|owner| (place, owner)))
}

fn show(launch: &Launch, on_disk: bool, json: bool) -> Result<(), Failure> {
    let (shown, whose) = match running(launch, on_disk)? {
        Some((place, owner)) => {
            let whose = format!("# what runs in process {}", owner.pid);
            let shown = asked(&place, owner, "config", false, Parameters::new())?;
            (shown, whose)
        }
        None => {
            let shown = told(&draw(launch)?.configuration.current().show())?;
            (shown, "# what the next start would read".to_owned())
        }
    };
    if json {
        print::answer(&shown, true);
    } else {
        print::text(&format!("{whose}\n{}", read::<Shown>(shown)?));
    }
    Ok(())
}

fn explain(launch: &Launch, key: &str, on_disk: bool, json: bool) -> Result<(), Failure> {
    let explained = match running(launch, on_disk)? {
        Some((place, owner)) => {
            let parameters = Parameters::from_iter([("key".to_owned(), json!(key))]);
            asked(&place, owner, "config.explain", false, parameters)?
        }
        None => {
            let current = draw(launch)?.configuration.current();
            told(&current.explain(key).map_err(Failure::usage)?)?
        }
    };
    if json {
        print::answer(&explained, true);
    } else {
        print::text(&read::<Explanation>(explained)?.to_string());
    }
    Ok(())
}

fn diff(launch: &Launch, json: bool) -> Result<(), Failure> {
    let answer = ask::of_running(launch, "config.diff", Parameters::new())?;
    let preview: ReloadPreview = read(answer.clone())?;
    if json {
        print::answer(&answer, true);
    }
    if let Some(refused) = preview.refused {
        return Err(Failure::usage(format!("a reload would be refused:\n{refused}")));
    }
    if !json {
        let generation = preview.generation;
        match preview.diff.is_empty() {
            true => print::text(&format!("a reload would change nothing in configuration {generation}")),
            false => print::text(&format!(
                "a reload would change configuration {generation}:\n{}",
                preview.diff
            )),
        }
    }
    Ok(())
}

/// The latest changes, the newest first.
fn history(launch: &Launch, limit: Option<u32>, json: bool) -> Result<(), Failure> {
    let answer = ask::of_running(launch, "config.history", ask::limited(limit).collect())?;
    if json {
        print::answer(&answer, true);
        return Ok(());
    }
    let entries: Vec<HistoryEntry> = read(answer)?;
    print::text(&entries.iter().map(HistoryEntry::to_string).collect::<String>());
    Ok(())
}

fn list(launch: &Launch, json: bool) -> Result<(), Failure> {
    let listed = match running(launch, false)? {
        Some((place, owner)) => asked(&place, owner, "config.overrides", false, Parameters::new())?,
        None => {
            // The file alone: an override may be why the configuration is wrong.
            let kept = overrides::kept_in(&whereabouts(launch)?.state_dir).map_err(Failure::new)?;
            let now = SystemClock::new().now();
            let kept: Vec<_> = kept.into_iter().filter(|one| !one.is_over(now)).collect();
            let listed: Vec<OverrideView> = control::listed(&settings::built_in(launch)?.current(), &kept);
            told(&listed)?
        }
    };
    print::answer(&listed, json);
    Ok(())
}

/// Sets or takes back overrides: of the process that runs, or else in its state directory.
fn change(launch: &Launch, name: &'static str, parameters: Parameters, json: bool) -> Result<(), Failure> {
    let place = whereabouts(launch)?;
    let directory = place.state_dir.clone();
    if let Some(owner) = StateDirectory::owner(&directory).filter(|owner| !owner.passing) {
        return acted(&asked(&place, owner, name, true, parameters)?, json);
    }
    if !directory.exists() {
        // Who mistakes the directory must leave nothing behind.
        return Err(Failure::new(ask::never_ran(&launch.application, &directory)));
    }
    let now = SystemClock::new().now();
    let locked = block_on(StateDirectory::lock_passing(&directory, &launch.application, now))?;
    let _owned = match locked {
        Ok(owned) => owned,
        // It started a moment ago: then it is the one to change it.
        Err(StateError::InUse { owner, .. }) => {
            return acted(&asked(&place, *owner, name, true, parameters)?, json);
        }
        Err(error) => return Err(Failure::new(error)),
    };
    let schema = settings::built_in(launch)?.current();
    let recorded = control::recorded(parameters.clone(), &schema);
    let audit = AuditLog::open(&directory);
    let audit = audit.map_err(|error| Failure::new(format!("the audit log can't be written: {error}")))?;
    let who = Caller {
        name: "command-line".into(),
        role: Role::Admin,
    };
    let changed = kept(launch, &directory, name, &parameters);
    let failed = changed
        .as_ref()
        .err()
        .map(|failure| ControlError::Invalid(failure.message.clone()));
    audit.record(now, &who, name, &recorded, failed.as_ref());
    let count = changed?;
    let file = directory.join(overrides::FILE);
    if json {
        print::answer(&json!({ "outcome": "kept", "overrides": count }), true);
    } else {
        print::text(&format!(
            "nothing runs: what is in {} counts from the next start on",
            file.display()
        ));
    }
    Ok(())
}

/// Changes the file of a state directory that this command owns, if the next start can do with it. Gives how many overrides
/// there are now.
fn kept(launch: &Launch, directory: &Path, name: &str, parameters: &Parameters) -> Result<usize, Failure> {
    let schema = settings::built_in(launch)?.current();
    let now = SystemClock::new().now();
    let wrong = |error: ControlError| Failure::usage(error);
    let change = match name {
        "config.set" => OverrideChange::Set {
            values: control::assignments(parameters, &schema).map_err(wrong)?,
            until: control::until(parameters, now).map_err(wrong)?,
            why: control::why(parameters).map_err(wrong)?,
        },
        _ => OverrideChange::Unset {
            keys: control::keys(parameters).map_err(wrong)?,
        },
    };
    let before = overrides::kept_in(directory).map_err(Failure::new)?;
    let before: Vec<_> = before.into_iter().filter(|one| !one.is_over(now)).collect();
    let after = change
        .apply(&before, "command-line", now)
        .map_err(|error| match error {
            OverrideRefusal::File(error) => Failure::new(error),
            error => Failure::usage(error),
        })?;
    let proposed = launch.sources.kept.propose(after.clone());
    let checked = draw(launch);
    drop(proposed);
    // What was wrong before may be taken back though something else is wrong as well.
    let mending = matches!(change, OverrideChange::Unset { .. }) && checked.is_err() && draw(launch).is_err();
    if !mending {
        checked?;
    }
    overrides::keep(directory, &after).map_err(Failure::new)?;
    Ok(after.len())
}

/// Prints what became of an action.
fn acted(answer: &Value, json: bool) -> Result<(), Failure> {
    if json {
        print::answer(answer, true);
        return Ok(());
    }
    let acted: ConfigActed = read(answer.clone())?;
    let generation = acted.generation;
    let mut text = match acted.outcome.as_str() {
        "applied" => format!("configuration {generation} runs:\n{}", acted.diff),
        "unchanged" => format!("no value has changed: configuration {generation} runs\n"),
        _ => {
            format!("it takes longer; configuration {generation} runs meanwhile, and `config history` tells the end\n")
        }
    };
    if let Some(probation) = acted.probation {
        text.push_str(&format!(
            "on probation for {probation}: if workers fail by it meanwhile, what ran before comes back\n"
        ));
    }
    print::text(&text);
    Ok(())
}

fn told(value: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(Failure::new)
}

/// An answer, perhaps of a process that runs another version of the program.
fn read<T: DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|error| {
        Failure::new(format!(
            "the answer of the process that runs can't be read, because it is another version of the program: {error}; \
             ask with --json"
        ))
    })
}
