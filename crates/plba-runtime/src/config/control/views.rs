//! Views of the configuration, besides the one of all values. All but one answer from memory; what a reload would change is found by reading everything,
//! and changes nothing.

use std::sync::Arc;

use jiff::Timestamp;
use plba_contracts::control::{ControlError, Endpoint, Parameters};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::change::ConfigDiff;
use crate::config::manager::ConfigurationManager;
use crate::config::overrides::Override;
use crate::config::snapshot::Configuration;

/// An override as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OverrideView {
    /// Its key.
    pub key: String,
    /// Its value; secrets are masked.
    pub value: Value,
    /// Who set it.
    pub by: String,
    /// When.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Until when it holds; without it until it is taken back.
    #[schemars(with = "Option<String>")]
    pub until: Option<Timestamp>,
    /// What for.
    pub why: Option<String>,
}

/// What a reload would do now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReloadPreview {
    /// The configuration that runs.
    pub generation: u64,
    /// What would be different.
    pub diff: ConfigDiff,
    /// Why it would be refused, for a person; may have many lines. What modules say of it is not asked.
    pub refused: Option<String>,
    /// The faults, where that is why.
    #[schemars(with = "Vec<Value>")]
    pub faults: Value,
}

/// The views.
pub fn endpoints(manager: &Arc<ConfigurationManager>) -> Vec<Endpoint> {
    let (explaining, listing, comparing) = (Arc::clone(manager), Arc::clone(manager), Arc::clone(manager));
    vec![
        Endpoint::view(
            "config.explain",
            "Explains one key: what it is for, its value in every layer, and which one wins; secrets are masked.",
            move |_, parameters| std::future::ready(explain(&explaining.current(), &parameters)),
        )
        .words("key", "the key, such as platform.control.listen"),
        Endpoint::view(
            "config.overrides",
            "Lists the overrides: who set what, when, until when and what for; secrets are masked.",
            move |_, _| std::future::ready(Ok(listed(&listing.current(), listing.current().overrides()))),
        ),
        Endpoint::view(
            "config.diff",
            "Tells what a reload would change now, or why it would be refused; changes nothing.",
            move |_, _| {
                let manager = Arc::clone(&comparing);
                async move { preview(&manager).await }
            },
        ),
    ]
}

fn explain(configuration: &Configuration, parameters: &Parameters) -> Result<Value, ControlError> {
    let key = match parameters.get("key") {
        Some(Value::String(key)) => Some(key.as_str()),
        Some(Value::Array(keys)) if keys.len() == 1 => keys[0].as_str(),
        _ => None,
    };
    let key = key.ok_or_else(|| ControlError::Invalid("name one key, such as platform.control.listen".into()))?;
    let explained = configuration.explain(key);
    json(&explained.map_err(|error| ControlError::Invalid(error.to_string()))?)
}

/// Overrides as they are shown, the latest first.
pub fn listed(configuration: &Configuration, overrides: &[Override]) -> Vec<OverrideView> {
    let view = |one: &Override| OverrideView {
        key: one.key.clone(),
        value: configuration.masked(&one.key, &one.value),
        by: one.by.clone(),
        at: one.at,
        until: one.until,
        why: one.why.clone(),
    };
    overrides.iter().rev().map(view).collect()
}

async fn preview(manager: &ConfigurationManager) -> Result<ReloadPreview, ControlError> {
    let running = manager.current();
    let mut preview = ReloadPreview {
        generation: running.generation(),
        diff: ConfigDiff::default(),
        refused: None,
        faults: Value::Array(Vec::new()),
    };
    match manager.read().await {
        Ok(next) => preview.diff = ConfigDiff::between(&running, &next),
        Err(report) => {
            preview.faults = json(&report.faults)?;
            preview.refused = Some(report.to_string());
        }
    }
    Ok(preview)
}

fn json(told: &impl Serialize) -> Result<Value, ControlError> {
    serde_json::to_value(told).map_err(|error| ControlError::Failed(error.into()))
}
