//! Configuration as a running module sees it: its own section, typed, always of one published generation, and told when it
//! is another. How generations come to be lives in the runtime.

use std::fmt;
use std::sync::Arc;

use crate::BoxError;
use crate::section::{ConfigSection, ErasedSection};
use crate::services::BoxFuture;

/// One published configuration: all its sections belong together and never change.
pub trait Generation: Send + Sync + 'static {
    /// Its number. Another number is another configuration; a lower one than before is one that came back.
    fn number(&self) -> u64;

    /// The section of a table, as an `Arc` of the declared type. Between two generations in which the table has the same
    /// values, it is the same `Arc`.
    fn section(&self, table: &str) -> Option<ErasedSection>;
}

/// Where generations are published: the runtime's configuration, or a test's.
pub trait Published: Send + Sync + 'static {
    /// The generation that counts now.
    fn now(&self) -> Arc<dyn Generation>;

    /// Waits until another generation than that of this number counts.
    ///
    /// # Cancel safety
    /// A dropped call forgets the wait and nothing else.
    fn other_than(&self, number: u64) -> BoxFuture<'_, ()>;
}

/// A section that follows the configuration while the process runs. [`Assembly::live`](crate::application::Assembly::live)
/// gives a module that of its own section.
///
/// A value that was read never changes: whoever needs several keys together reads once and uses what it read. Sections of
/// several modules are read together from one [`generation`](Self::generation).
///
/// Until its module's new parts have been put to work and published, whatever was assembled before sees the section of
/// before; what was assembled anew sees the one that it was assembled from. A change that fails is never seen by what stays.
///
/// ```
/// # use plba_contracts::config::Live;
/// # use plba_contracts::section::ConfigSection;
/// # #[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// # struct Limits { a_minute: u32 }
/// # impl ConfigSection for Limits {}
/// async fn serve(mut limits: Live<Limits>) {
///     let mut now = limits.current();
///     loop {
///         // select! between work under `now` and:
///         now = limits.changed().await;
///     }
/// }
/// ```
pub struct Live<T> {
    published: Arc<dyn Published>,
    table: Arc<str>,
    /// What `changed` compares with: the latest that it gave.
    seen: Arc<T>,
}

impl<T: ConfigSection> Live<T> {
    /// The section of this table, wherever generations are published.
    ///
    /// # Errors
    /// The table was not declared as `T`.
    pub fn new(published: Arc<dyn Published>, table: &str) -> Result<Self, BoxError> {
        let Some(seen) = typed::<T>(published.now().as_ref(), table) else {
            let name = std::any::type_name::<T>();
            return Err(format!("the table `{table}` was not declared as {name}; ask for the declared type").into());
        };
        let table = table.into();
        Ok(Self { published, table, seen })
    }

    /// A section that never changes, for tests and for parts that are used without a process.
    pub fn fixed(section: T) -> Self {
        let seen = Arc::new(section);
        let erased = Arc::clone(&seen) as ErasedSection;
        Self {
            published: Arc::new(Fixed(Some(erased))),
            table: "".into(),
            seen,
        }
    }

    /// The section as it counts now.
    pub fn current(&self) -> Arc<T> {
        self.of(self.published.now().as_ref())
    }

    /// The generation that counts now, to read several sections of it: each with [`of`](Self::of).
    pub fn generation(&self) -> Arc<dyn Generation> {
        self.published.now()
    }

    /// The section as it is in a generation.
    pub fn of(&self, generation: &dyn Generation) -> Arc<T> {
        // Every generation of a process has the same tables of the same types.
        typed::<T>(generation, &self.table).unwrap_or_else(|| Arc::clone(&self.seen))
    }

    /// Waits until the section has other values than this handle's `changed` gave last, or than it was made or cloned with,
    /// and gives them. Changes of other sections don't wake it. Of several changes in a row it gives the last.
    ///
    /// # Cancel safety
    /// A dropped call loses no change: the next one gives it.
    pub async fn changed(&mut self) -> Arc<T> {
        loop {
            let generation = self.published.now();
            let section = self.of(generation.as_ref());
            if !Arc::ptr_eq(&section, &self.seen) {
                self.seen = Arc::clone(&section);
                return section;
            }
            self.published.other_than(generation.number()).await;
        }
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self {
            published: Arc::clone(&self.published),
            table: Arc::clone(&self.table),
            seen: Arc::clone(&self.seen),
        }
    }
}

/// The section may hold secrets, so only its table is shown.
impl<T> fmt::Debug for Live<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Live")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

fn typed<T: ConfigSection>(generation: &dyn Generation, table: &str) -> Option<Arc<T>> {
    generation.section(table)?.downcast::<T>().ok()
}

/// The only generation there will be, of one section or none.
#[derive(Clone)]
pub(crate) struct Fixed(pub(crate) Option<ErasedSection>);

impl Generation for Fixed {
    fn number(&self) -> u64 {
        1
    }

    fn section(&self, _table: &str) -> Option<ErasedSection> {
        self.0.clone()
    }
}

impl Published for Fixed {
    fn now(&self) -> Arc<dyn Generation> {
        Arc::new(self.clone())
    }

    fn other_than(&self, _number: u64) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}
