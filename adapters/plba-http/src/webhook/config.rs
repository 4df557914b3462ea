//! Webhooks in the configuration: a table that an application embeds in its own section.

use plba_contracts::config::TimeSpan;
use plba_contracts::secret::Secret;
use plba_contracts::section::Faults;
use plba_tasks::task::NewTask;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Hook, SigningSecret, WebhookSettings};
use crate::listen::is_loopback;

/// Where webhooks are received, and which: `[SECTION.webhooks]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WebhooksConfig {
    /// The address that is listened on, `address:port`; never the control plane's.
    pub listen: String,
    /// Who ends TLS. An address that others can reach needs `"terminated-upstream"`: a proxy in front does it.
    pub tls: Option<Tls>,
    /// Whether requests may be accepted into a queue that ends with the process, and be lost with it.
    pub allow_loss: bool,
    /// The webhooks: `[[SECTION.webhooks.hooks]]`.
    pub hooks: Vec<HookConfig>,
}

/// Who ends TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// A proxy in front.
    TerminatedUpstream,
}

/// One webhook.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HookConfig {
    /// Its name: lower-case letters, digits, `-` and `_`. It must stay the same for ever.
    pub name: String,
    /// The path, such as `/shop/orders`.
    pub path: String,
    /// The sender's secrets, `whsec_…`; two while they change.
    pub secrets: Vec<Secret>,
    /// The queue that a request's task goes to.
    pub queue: String,
    /// The kind of that task.
    pub kind: String,
    /// The longest body, in bytes.
    #[serde(default = "body_bytes")]
    pub body_bytes: usize,
    /// How many requests are in hand at once.
    #[serde(default = "concurrency")]
    pub concurrency: usize,
    /// For how long a request's id is remembered.
    #[serde(default = "remember")]
    pub remember: TimeSpan,
    /// The media types that are taken.
    #[serde(default = "content_types")]
    pub content_types: Vec<String>,
}

fn body_bytes() -> usize {
    256 * 1024
}

fn concurrency() -> usize {
    64
}

fn remember() -> TimeSpan {
    TimeSpan::seconds(3 * 24 * 3600)
}

fn content_types() -> Vec<String> {
    vec!["application/json".to_owned()]
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8090".to_owned(),
            tls: None,
            allow_loss: false,
            hooks: Vec::new(),
        }
    }
}

impl WebhooksConfig {
    /// What [`webhooks`](super::webhooks) takes.
    ///
    /// # Errors
    /// The key at fault within this table, and what would do.
    pub fn build(&self) -> Result<(WebhookSettings, Vec<Hook>), (String, String)> {
        if !is_loopback(&self.listen) && self.tls.is_none() {
            let fault = "others can reach this address, so requests need TLS: listen on 127.0.0.1, or put a proxy in front \
                         and say tls = \"terminated-upstream\"";
            return Err(("listen".into(), fault.into()));
        }
        let mut hooks: Vec<Hook> = Vec::new();
        for (index, config) in self.hooks.iter().enumerate() {
            let at = |key: &str| format!("hooks.{index}.{key}");
            let hook = config.build().map_err(|(key, fault)| (at(key), fault))?;
            if hooks.iter().any(|other| other.name == hook.name) {
                return Err((at("name"), format!("there is another webhook \"{}\"", hook.name)));
            }
            if hooks.iter().any(|other| other.path == hook.path) {
                return Err((at("path"), format!("there is another webhook at {}", hook.path)));
            }
            hooks.push(hook);
        }
        let settings = WebhookSettings {
            listen: self.listen.clone(),
            allow_loss: self.allow_loss,
            ..WebhookSettings::default()
        };
        Ok((settings, hooks))
    }

    /// Checks this table for the validation of the section that embeds it under the key `path`.
    pub fn validate(&self, path: &str, faults: &mut Faults) {
        if let Err((key, fault)) = self.build() {
            faults.report(&format!("{path}.{key}"), fault);
        }
    }
}

impl HookConfig {
    fn build(&self) -> Result<Hook, (&'static str, String)> {
        let read = |secret: &Secret| SigningSecret::parse(secret.expose());
        let secrets = self.secrets.iter().map(read).collect::<Result<Vec<_>, _>>();
        let secrets = secrets.map_err(|error| ("secrets", error.to_string()))?;
        let task = NewTask::new(self.queue.as_str(), self.kind.clone(), "");
        let mut hook = Hook::new(&self.name, &self.path, secrets, task);
        hook.body_bytes = self.body_bytes;
        hook.concurrency = self.concurrency;
        hook.remember = self.remember.into();
        hook.content_types.clone_from(&self.content_types);
        hook.validate()?;
        Ok(hook)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fault(change: impl FnOnce(&mut Value)) -> Option<String> {
        let mut value = json!({
            "listen": "127.0.0.1:0",
            "hooks": [{
                "name": "shop", "path": "/shop", "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
                "queue": "orders", "kind": "order.received",
            }],
        });
        change(&mut value);
        let config: WebhooksConfig = serde_json::from_value(value).unwrap();
        config.build().err().map(|(key, _)| key)
    }

    #[test]
    fn each_fault_is_told_at_its_key() {
        assert_eq!(fault(|_| ()), None);
        assert_eq!(
            fault(|value| value["listen"] = json!("0.0.0.0:8090")).unwrap(),
            "listen"
        );
        let upstream = |value: &mut Value| {
            value["listen"] = json!("0.0.0.0:8090");
            value["tls"] = json!("terminated-upstream");
        };
        assert_eq!(fault(upstream), None);
        for (key, wrong) in [
            ("name", json!("Shop")),
            ("path", json!("/shop/{id}")),
            ("path", json!("shop")),
            ("secrets", json!([])),
            ("secrets", json!(["whsec_AAAA"])),
            ("queue", json!("")),
            ("body_bytes", json!(1)),
            ("concurrency", json!(0)),
            ("remember", json!("1m")),
            ("content_types", json!([])),
        ] {
            let found = fault(|value| value["hooks"][0][key] = wrong.clone());
            assert_eq!(found, Some(format!("hooks.0.{key}")), "{wrong}");
        }
        let twice = |value: &mut Value| {
            let hook = value["hooks"][0].clone();
            value["hooks"].as_array_mut().unwrap().push(hook);
        };
        assert_eq!(fault(twice).unwrap(), "hooks.1.name");
    }
}
