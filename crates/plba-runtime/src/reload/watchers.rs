//! Everyone who asks for reloads by themselves for as long as the process works.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::config::change::follow_providers;
use crate::config::overrides::expire;
use crate::config::{ConfigurationManager, follow_files};

/// Starts them all on this executor. They end when the set is dropped.
pub(crate) fn watchers(configuration: &Arc<ConfigurationManager>) -> JoinSet<()> {
    let mut watchers = JoinSet::new();
    watchers.spawn(expire(Arc::clone(configuration)));
    watchers.spawn(follow_files(Arc::clone(configuration)));
    let configuration = Arc::clone(configuration);
    watchers.spawn(async move {
        let never = follow_providers(configuration).await;
        match never {}
    });
    watchers
}
