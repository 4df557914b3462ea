//! Where generations are published: the configuration that counts now, for the process and for the `Live` handles of its
//! modules.

use std::sync::{Arc, Mutex, PoisonError};

use plba_contracts::config::{Generation, Published};
use plba_contracts::section::ErasedSection;
use plba_contracts::services::BoxFuture;
use tokio::sync::watch;

use crate::config::snapshot::Configuration;

/// The configuration that counts now.
pub(in crate::config) struct Board(watch::Sender<Arc<Configuration>>);

impl Board {
    pub(in crate::config) fn new(first: Configuration) -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(Arc::new(first))))
    }

    pub(in crate::config) fn current(&self) -> Arc<Configuration> {
        Arc::clone(&self.0.borrow())
    }

    pub(in crate::config) fn publish(&self, configuration: Arc<Configuration>) {
        self.0.send_replace(configuration);
    }

    pub(in crate::config) fn subscribe(&self) -> watch::Receiver<Arc<Configuration>> {
        self.0.subscribe()
    }
}

impl Published for Board {
    fn now(&self) -> Arc<dyn Generation> {
        self.current()
    }

    fn other_than(&self, number: u64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut receiver = self.subscribe();
            // The only error is that the board is gone, and it is borrowed here.
            let _ = receiver
                .wait_for(|configuration| configuration.generation != number)
                .await;
        })
    }
}

impl Generation for Configuration {
    fn number(&self) -> u64 {
        self.generation
    }

    fn section(&self, table: &str) -> Option<ErasedSection> {
        self.sections.get(table).cloned()
    }
}

/// The board as those see it who are assembled from a configuration that is to be published: that one until it is, and
/// whatever is published from then on.
pub(in crate::config) struct Upcoming {
    board: Arc<Board>,
    configuration: Mutex<Option<Arc<Configuration>>>,
}

impl Upcoming {
    pub(in crate::config) fn new(board: Arc<Board>, configuration: Arc<Configuration>) -> Self {
        Self {
            board,
            configuration: Mutex::new(Some(configuration)),
        }
    }
}

impl Published for Upcoming {
    fn now(&self) -> Arc<dyn Generation> {
        let mut upcoming = self.configuration.lock().unwrap_or_else(PoisonError::into_inner);
        let published = self.board.current();
        match &*upcoming {
            Some(configuration) if published.generation < configuration.generation => {
                Arc::<Configuration>::clone(configuration)
            }
            _ => {
                *upcoming = None;
                published
            }
        }
    }

    fn other_than(&self, number: u64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut receiver = self.board.subscribe();
            loop {
                receiver.mark_unchanged();
                if self.now().number() != number || receiver.changed().await.is_err() {
                    return;
                }
            }
        })
    }
}
