//! Asking views and actions: of the process that owns the state directory, over its control plane; or, when none runs,
//! in this process, with just the services that the answer needs.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::clock::Clock;
use plba_contracts::control::{Caller, ControlError, Endpoint, ParameterKind, Parameters, Role};
use plba_contracts::metrics::Metrics;
use plba_contracts::services::ServiceDefinition;
use plba_contracts::trace::TraceFactory;
use plba_runtime::actions;
use plba_runtime::audit::AuditLog;
use plba_runtime::blueprint::{Blueprint, Launch};
use plba_runtime::children::ChildProcesses;
use plba_runtime::clock::SystemClock;
use plba_runtime::config::{ConfigurationSources, Whereabouts};
use plba_runtime::services::{Provided, ServiceContainer};
use plba_runtime::state::{Owner, StateDirectory, StateError};
use plba_runtime::token;
use plba_runtime::trace::{TraceConfig, TraceService};
use serde_json::{Value, json};

use super::steps::in_steps;
use super::{Failure, block_on, draw, print, whereabouts};
use crate::app::App;
use crate::wiring;

/// How often, and with which pause, a process that is still starting is looked at again.
const STARTING_LOOKS: u32 = 50;
const STARTING_LOOK: Duration = Duration::from_millis(100);

/// Asks a view of the platform itself, which only a running process can answer.
pub(super) fn running(launch: &Launch, view: &str, json: bool) -> Result<(), Failure> {
    ask_running(launch, view, Parameters::new(), json)
}

/// Asks for finished spans.
pub(super) fn traces(launch: &Launch, trace: Option<String>, limit: Option<u32>, json: bool) -> Result<(), Failure> {
    let trace = trace.map(|trace| ("trace".to_owned(), json!(trace)));
    ask_running(
        launch,
        "traces",
        trace.into_iter().chain(limited(limit)).collect(),
        json,
    )
}

/// Asks for what the supervisor saw and did.
pub(super) fn events(launch: &Launch, limit: Option<u32>, json: bool) -> Result<(), Failure> {
    ask_running(launch, "events", limited(limit).collect(), json)
}

/// The parameter by which views give no more than so many.
pub(super) fn limited(limit: Option<u32>) -> impl Iterator<Item = (String, Value)> {
    limit
        .map(|limit| ("limit".to_owned(), json!(limit.to_string())))
        .into_iter()
}

fn ask_running(launch: &Launch, view: &str, parameters: Parameters, json: bool) -> Result<(), Failure> {
    print::answer(&of_running(launch, view, parameters)?, json);
    Ok(())
}

/// The answer of the process that runs.
pub(super) fn of_running(launch: &Launch, view: &str, parameters: Parameters) -> Result<Value, Failure> {
    let place = whereabouts(launch)?;
    let owner = StateDirectory::owner(&place.state_dir);
    let owner = owner.ok_or_else(|| not_running(&launch.application, &place))?;
    remote(&place, owner, view, false, parameters)
}

pub(super) fn not_running(name: &str, place: &Whereabouts) -> Failure {
    let directory = place.state_dir.display();
    Failure::new(format!(
        "{name} does not run in the state directory {directory}; start it with `{name}`"
    ))
}

/// Asks a view or an action that a module contributes: `dead retry 7` asks `dead.retry`. The platform's own actions are
/// asked the same way, but of a running process only.
pub(super) fn contributed(launch: &Launch, words: &[OsString], json: bool) -> Result<(), Failure> {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let Common { launch, words, json } = common(launch, words, json)?;
    let blueprint = draw(&launch)?;
    let own = actions::endpoints(None);
    let endpoints: Vec<&Endpoint> = own.iter().chain(contributions(&blueprint)).collect();
    if words.iter().any(|word| word == "--help" || word == "-h")
        && let Some(help) = help(&launch.application, &words, &endpoints)
    {
        print::text(&help);
        return Ok(());
    }
    let (endpoint, rest) = find(&endpoints, &words).ok_or_else(|| unknown(&launch.application, &words, &endpoints))?;
    let endpoint = endpoint.clone();
    let parameters = parameters(&launch.application, &endpoint, rest)?;
    let place = place_of(&blueprint);
    let value = match StateDirectory::owner(&place.state_dir) {
        _ if endpoint.here => here(blueprint, &endpoint, parameters)?,
        Some(owner) => remote(&place, owner, endpoint.name, endpoint.changes, parameters)?,
        None if own.iter().any(|own| own.name == endpoint.name) => {
            return Err(not_running(&launch.application, &place));
        }
        None => local(&launch, blueprint, &endpoint, parameters)?,
    };
    match endpoint.told {
        // An answer that was printed piece by piece has nothing left.
        _ if value == json!({}) => {}
        Some(told) if !json => print::text(&told(&value)),
        _ => print::answer(&value, json),
    }
    Ok(())
}

fn place_of(blueprint: &Blueprint) -> Whereabouts {
    Whereabouts {
        state_dir: blueprint.platform.state_dir.as_path().to_owned(),
        control: blueprint.platform.control.clone(),
    }
}

fn contributions(blueprint: &Blueprint) -> impl Iterator<Item = &Endpoint> {
    blueprint.modules.iter().flat_map(|module| &module.parts.endpoints)
}

/// Lists the platform's actions and what modules contribute, below the help on the platform's own commands.
pub(super) fn list_contributed(app: &App) {
    let sources = ConfigurationSources::default();
    let launch = Launch {
        application: app.name.clone(),
        modules: app.modules.clone(),
        sources,
    };
    let own = actions::endpoints(None);
    print::text(&format!(
        "\nActions on the running process:\n{}",
        listing(&own.iter().collect::<Vec<_>>())
    ));
    let Ok(blueprint) = draw(&launch) else { return };
    let endpoints: Vec<&Endpoint> = contributions(&blueprint).collect();
    if !endpoints.is_empty() {
        print::text(&format!("\nCommands of {}:\n{}", app.name, listing(&endpoints)));
    }
}

/// The options that every command takes, wherever they stand.
struct Common {
    launch: Launch,
    words: Vec<String>,
    json: bool,
}

fn common(launch: &Launch, words: Vec<String>, json: bool) -> Result<Common, Failure> {
    let mut common = Common {
        launch: launch.clone(),
        words: Vec::new(),
        json,
    };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) if word.starts_with("--") => (option.to_owned(), Some(value.to_owned())),
            _ => (word.clone(), None),
        };
        let mut value = || {
            value
                .clone()
                .or_else(|| words.next())
                .ok_or_else(|| Failure::usage(format!("{option} needs a value")))
        };
        match option.as_str() {
            "--json" => common.json = true,
            "--config" => common.launch.sources.files.push(value()?.into()),
            "--set" => common.launch.sources.overrides.push(value()?),
            _ => common.words.push(word),
        }
    }
    Ok(common)
}

/// The endpoint with the longest name that the words begin with, and the words that are left. A bare `dead` is
/// `dead list`.
fn find<'a, 'w>(endpoints: &[&'a Endpoint], words: &'w [String]) -> Option<(&'a Endpoint, &'w [String])> {
    let rest = |name: &str| {
        let parts: Vec<&str> = name.split('.').collect();
        let begins = words.len() >= parts.len() && words.iter().zip(&parts).all(|(word, part)| word == part);
        begins.then(|| &words[parts.len()..])
    };
    let named = endpoints
        .iter()
        .filter_map(|endpoint| Some((*endpoint, rest(endpoint.name)?)));
    let listed = endpoints.iter().filter_map(|endpoint| {
        let rest = rest(endpoint.name.strip_suffix(".list")?)?;
        // Another word would be a command of the group that is not there.
        rest.iter()
            .all(|word| word.starts_with('-'))
            .then_some((*endpoint, rest))
    });
    named
        .min_by_key(|(_, rest)| rest.len())
        .or_else(|| listed.min_by_key(|(_, rest)| rest.len()))
}

fn unknown(application: &str, words: &[String], endpoints: &[&Endpoint]) -> Failure {
    let asked = words.join(" ");
    let first = words.first().map(String::as_str).unwrap_or_default();
    let below: Vec<&Endpoint> = endpoints
        .iter()
        .copied()
        .filter(|endpoint| endpoint.name.split('.').next() == Some(first))
        .collect();
    if below.is_empty() {
        return Failure::usage(format!("there is no command `{asked}`; see `{application} --help`"));
    }
    Failure::usage(format!(
        "there is no command `{asked}`; there are:\n{}",
        listing(&below)
    ))
}

fn listing(endpoints: &[&Endpoint]) -> String {
    let spoken = |endpoint: &Endpoint| endpoint.name.replace('.', " ");
    let width = endpoints
        .iter()
        .map(|endpoint| spoken(endpoint).len())
        .max()
        .unwrap_or(0);
    let line = |endpoint: &&Endpoint| format!("  {:width$}  {}\n", spoken(endpoint), endpoint.summary);
    endpoints.iter().map(line).collect()
}

/// The help on what the words name: a command, those that begin with its name, or both.
fn help(application: &str, words: &[String], endpoints: &[&Endpoint]) -> Option<String> {
    let named: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .take_while(|word| !word.starts_with('-'))
        .collect();
    let group = format!("{}.", named.join("."));
    let own = find(endpoints, words).map(|(endpoint, _)| endpoint);
    let is_own = |endpoint: &Endpoint| own.is_some_and(|own| own.name == endpoint.name);
    let below: Vec<&Endpoint> = endpoints
        .iter()
        .copied()
        .filter(|endpoint| endpoint.name.starts_with(&group) && !is_own(endpoint))
        .collect();
    let mut parts: Vec<String> = own.map(|endpoint| help_on(application, endpoint)).into_iter().collect();
    if !below.is_empty() {
        parts.push(format!("Commands of {}:\n{}", named.join(" "), listing(&below)));
    }
    (!parts.is_empty()).then(|| parts.join("\n"))
}

fn help_on(application: &str, endpoint: &Endpoint) -> String {
    let spoken = endpoint.name.replace('.', " ");
    let mut usage = format!("Usage: {application} {spoken}");
    let mut lines = String::new();
    for parameter in &endpoint.parameters {
        let shown = match parameter.kind {
            ParameterKind::Value => format!("--{} VALUE", parameter.name),
            ParameterKind::Flag => format!("--{}", parameter.name),
            ParameterKind::Words => format!("{}…", parameter.name.to_uppercase()),
        };
        usage.push_str(&format!(" [{shown}]"));
        lines.push_str(&format!("  {shown:24}  {}\n", parameter.help));
    }
    format!("{}\n\n{usage} [--json]\n\n{lines}", endpoint.summary)
}

fn parameters(application: &str, endpoint: &Endpoint, words: &[String]) -> Result<Parameters, Failure> {
    let refused = |why: String| {
        Failure::usage(format!(
            "{why}; see `{application} {} --help`",
            endpoint.name.replace('.', " ")
        ))
    };
    let mut given = Parameters::new();
    let mut bare = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(option) = word.strip_prefix("--") else {
            bare.push(json!(word));
            continue;
        };
        let (name, value) = option
            .split_once('=')
            .map_or((option, None), |(name, value)| (name, Some(value.to_owned())));
        let known = endpoint.parameters.iter().find(|parameter| parameter.name == name);
        let value = match known.map(|parameter| parameter.kind) {
            Some(ParameterKind::Flag) if value.is_none() => json!(true),
            Some(ParameterKind::Value) => {
                json!(
                    value
                        .or_else(|| words.next().cloned())
                        .ok_or_else(|| refused(format!("--{name} needs a value")))?
                )
            }
            _ => return Err(refused(format!("there is no option --{name}"))),
        };
        given.insert(name.to_owned(), value);
    }
    if !bare.is_empty() {
        let takes = endpoint
            .parameters
            .iter()
            .find(|parameter| parameter.kind == ParameterKind::Words);
        let takes = takes.ok_or_else(|| refused(format!("{} is too much", bare[0])))?;
        given.insert(takes.name.to_owned(), Value::Array(bare));
    }
    Ok(given)
}

fn remote(
    place: &Whereabouts,
    owner: Owner,
    name: &str,
    changes: bool,
    parameters: Parameters,
) -> Result<Value, Failure> {
    called(place, owner, name, changes, parameters)?.map_err(Failure::new)
}

/// Calls the process that runs, and gives what it says itself.
pub(super) fn called(
    place: &Whereabouts,
    owner: Owner,
    name: &str,
    changes: bool,
    parameters: Parameters,
) -> Result<Result<Value, ControlError>, Failure> {
    let client =
        wiring::client().ok_or_else(|| Failure::new("this program was built without a control plane client"))?;
    block_on(async {
        let address = address(place, owner).await?;
        let token = token::existing(&place.control, &place.state_dir).map_err(Failure::new)?;
        let call = async |parameters| client.call(&address, &token, name, changes, parameters).await;
        Ok(in_steps(call, parameters).await)
    })?
}

/// Where the owner's control plane listens; waits for one that is still starting.
async fn address(place: &Whereabouts, mut owner: Owner) -> Result<String, Failure> {
    for _ in 0..STARTING_LOOKS {
        if let Some(address) = owner.control {
            return Ok(address);
        }
        tokio::time::sleep(STARTING_LOOK).await;
        match StateDirectory::owner(&place.state_dir) {
            Some(now) => owner = now,
            None => return Err(Failure::new(format!("process {} has just ended; ask again", owner.pid))),
        }
    }
    let message =
        "runs without a control plane, so it can't be asked; enable platform.control, or stop it and ask again";
    Err(Failure::new(format!("process {} {message}", owner.pid)))
}

/// Nobody has run in this directory; perhaps it is the wrong one.
pub(super) fn never_ran(application: &str, directory: &Path) -> String {
    format!(
        "{application} has not run here: there is no state directory {}; ask from the directory that it runs in, or name its \
         state with `--set platform.state_dir=DIRECTORY`",
        std::path::absolute(directory)
            .unwrap_or_else(|_| directory.to_owned())
            .display()
    )
}

/// Answers without a running process. The state directory is owned meanwhile, so that none starts in between.
fn local(launch: &Launch, blueprint: Blueprint, endpoint: &Endpoint, parameters: Parameters) -> Result<Value, Failure> {
    let clock = Arc::new(SystemClock::new());
    let directory: &Path = blueprint.platform.state_dir.as_path();
    if !endpoint.changes && !endpoint.first && !directory.exists() {
        // Whoever only looks, perhaps from a wrong directory, must leave nothing behind.
        return Err(Failure::new(never_ran(&launch.application, directory)));
    }
    let owned = block_on(StateDirectory::lock_passing(
        directory,
        &launch.application,
        clock.now(),
    ))?;
    let _owned = match owned {
        Ok(owned) => owned,
        // It started a moment ago: then it is the one to answer.
        Err(StateError::InUse { owner, .. }) => {
            return remote(
                &place_of(&blueprint),
                *owner,
                endpoint.name,
                endpoint.changes,
                parameters,
            );
        }
        Err(error) => return Err(Failure::new(error)),
    };
    // Whoever acts is recorded, whether a process runs or not.
    let audit = endpoint.changes.then(|| AuditLog::open(directory)).transpose();
    let audit = audit.map_err(|error| Failure::new(format!("the audit log can't be written: {error}")))?;
    let (at, recorded) = (clock.now(), endpoint.recorded(&parameters));
    let container = container(blueprint, clock)?;
    block_on(async {
        let call = async |parameters| endpoint.call(container.services(), parameters).await;
        let answer = in_steps(call, parameters).await;
        container.close_all().await;
        if let Some(audit) = audit {
            let who = Caller {
                name: "command-line".into(),
                role: Role::Admin,
            };
            audit.record(at, &who, endpoint.name, &recorded, answer.as_ref().err());
        }
        answer.map_err(Failure::new)
    })?
}

/// Answers in this process, beside one that may run; the state directory is not touched.
fn here(blueprint: Blueprint, endpoint: &Endpoint, parameters: Parameters) -> Result<Value, Failure> {
    let container = container(blueprint, Arc::new(SystemClock::new()))?;
    block_on(async {
        let answer = endpoint.call(container.services(), parameters).await;
        container.close_all().await;
        answer.map_err(Failure::new)
    })?
}

/// The services of all modules, none of them built.
fn container(blueprint: Blueprint, clock: Arc<SystemClock>) -> Result<Arc<ServiceContainer>, Failure> {
    let (traces, _export) = TraceService::new(&TraceConfig::default(), clock.clone(), 0, Vec::new());
    let provided = Provided::default()
        .with::<dyn Clock>(clock)
        .with::<dyn TraceFactory>(Arc::new(traces))
        .with::<Metrics>(Arc::default())
        .with::<ChildProcesses>(Arc::new(ChildProcesses::detached("command-line")));
    let services = blueprint.modules.into_iter().flat_map(|module| module.parts.services);
    let definitions: Vec<ServiceDefinition> = services.collect();
    let container = ServiceContainer::new(definitions, provided).map_err(Failure::new)?;
    Ok(Arc::new(container))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(name: &'static str) -> Endpoint {
        Endpoint::view::<u32, _, _>(name, "Tells.", |_, _| async { Ok(1) })
    }

    #[test]
    fn words_name_an_endpoint_and_a_bare_group_its_list() {
        let (list, retry, orders) = (endpoint("dead.list"), endpoint("dead.retry"), endpoint("orders"));
        let endpoints = [&list, &retry, &orders];
        for (line, name, left) in [
            ("dead list --limit 3", Some("dead.list"), 2),
            ("dead retry 7", Some("dead.retry"), 1),
            ("dead", Some("dead.list"), 0),
            ("dead --limit=3", Some("dead.list"), 1),
            ("dead retyr 7", None, 0),
            ("orders 1 2", Some("orders"), 2),
            ("ordrs", None, 0),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let found = find(&endpoints, &words).map(|(endpoint, rest)| (endpoint.name, rest.len()));
            assert_eq!(found, name.map(|name| (name, left)), "{line}");
        }
    }

    #[test]
    fn help_on_a_group_names_its_commands_whether_it_is_one_itself_or_not() {
        let endpoints = [
            endpoint("dead.list"),
            endpoint("dead.retry"),
            endpoint("queues"),
            endpoint("queues.pause"),
            endpoint("templates.check"),
        ];
        let endpoints: Vec<&Endpoint> = endpoints.iter().collect();
        for (line, usage, below) in [
            ("dead --help", Some("bot dead list"), "dead retry"),
            ("queues -h", Some("bot queues"), "queues pause"),
            ("templates --help", None, "templates check"),
            ("dead retry --help", Some("bot dead retry"), ""),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let told = help("bot", &words, &endpoints).unwrap();
            let shown = told
                .lines()
                .find_map(|line| line.strip_prefix("Usage: ")?.strip_suffix(" [--json]"));
            assert_eq!(shown, usage, "{line}");
            assert_eq!(told.contains("Commands of"), !below.is_empty(), "{line}\n{told}");
            assert!(told.contains(below), "{line}\n{told}");
        }
        assert_eq!(
            help("bot", &["ordrs".to_owned(), "--help".to_owned()], &endpoints),
            None
        );
    }
}
