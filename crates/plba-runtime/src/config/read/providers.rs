//! Asking providers for their layers, all at once and each within its limit. One that is down while the process runs is stood
//! in for by what it gave last, and is known to be down until it answers again. Merging the layers comes after.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use plba_contracts::config::{ConfigProvider, ProvidedValue};
use plba_contracts::describe;
use tracing::{info, warn};

use super::layers::Provided;
use crate::TARGET;
use crate::panic::panic_message;

/// How long one provider may take to give its layer.
pub const PROVIDER_LIMIT: Duration = Duration::from_secs(10);

/// What a provider gave last, as a configuration was made of it.
#[derive(Clone)]
pub(crate) struct ProviderLayer {
    provider: Arc<dyn ConfigProvider>,
    pub(crate) values: Arc<[ProvidedValue]>,
}

/// The providers that are down, by their names, each with what it said.
#[derive(Default)]
pub(crate) struct Outages(Mutex<BTreeMap<String, String>>);

/// What all providers gave: to be merged, and to be stood in for by at the next time.
pub(crate) struct Answers {
    pub(crate) provided: Vec<Provided>,
    pub(crate) layers: Vec<ProviderLayer>,
}

impl Answers {
    /// Those that were kept, as if these providers had given them now.
    pub(crate) fn kept(providers: Vec<Arc<dyn ConfigProvider>>, kept: Vec<(String, Vec<ProvidedValue>)>) -> Self {
        let mut answers = Self {
            provided: Vec::new(),
            layers: Vec::new(),
        };
        for provider in providers {
            let name = provider.name().to_owned();
            let known = kept.iter().find(|(known, _)| *known == name);
            let values = known.map(|(_, values)| values.clone()).unwrap_or_default();
            answers.layers.push(ProviderLayer {
                provider,
                values: values.clone().into(),
            });
            let values = Ok(values);
            answers.provided.push(Provided { name, values });
        }
        answers
    }
}

impl Outages {
    /// Asks all of them. `before` is what they gave last; one that is down and isn't there gives why it is down.
    pub(crate) async fn ask(&self, providers: Vec<Arc<dyn ConfigProvider>>, before: &[ProviderLayer]) -> Answers {
        let asked = join_all(providers.iter().map(|provider| load(provider.as_ref()))).await;
        let (mut answers, mut down) = (
            Answers {
                provided: Vec::new(),
                layers: Vec::new(),
            },
            BTreeMap::new(),
        );
        for (provider, loaded) in providers.into_iter().zip(asked) {
            let name = provider.name().to_owned();
            let values = loaded.map(Arc::<[ProvidedValue]>::from).or_else(|reason| {
                down.insert(name.clone(), reason.clone());
                let known = before.iter().find(|layer| Arc::ptr_eq(&layer.provider, &provider));
                known.map(|layer| Arc::clone(&layer.values)).ok_or(reason)
            });
            if let Ok(values) = &values {
                let values = Arc::clone(values);
                answers.layers.push(ProviderLayer { provider, values });
            }
            let values = values.map(|values| values.to_vec());
            answers.provided.push(Provided { name, values });
        }
        self.note(down);
        answers
    }

    /// Those that are down, and why.
    pub(crate) fn list(&self) -> Vec<(String, String)> {
        let down = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        down.iter()
            .map(|(name, reason)| (name.clone(), reason.clone()))
            .collect()
    }

    fn note(&self, down: BTreeMap<String, String>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, reason) in down.iter().filter(|(name, _)| !known.contains_key(*name)) {
            warn!(target: TARGET, "{name} is down: {reason}");
        }
        for name in known.keys().filter(|name| !down.contains_key(*name)) {
            info!(target: TARGET, "{name} answers again");
        }
        *known = down;
    }
}

async fn load(provider: &dyn ConfigProvider) -> Result<Vec<ProvidedValue>, String> {
    let loading = AssertUnwindSafe(provider.load()).catch_unwind();
    match tokio::time::timeout(PROVIDER_LIMIT, loading).await {
        Ok(Ok(Ok(values))) => Ok(values),
        Ok(Ok(Err(error))) => Err(format!("can't be read: {}", describe(error.as_ref()))),
        Ok(Err(panic)) => Err(format!("can't be read: {}", panic_message(panic.as_ref()))),
        Err(_) => Err(format!("no answer within {} s", PROVIDER_LIMIT.as_secs())),
    }
}
