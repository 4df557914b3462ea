//! Being asked before the configuration changes: a module's word on whether a new section will do. When it is asked, and for
//! how long it is waited for, lives in the runtime.

use std::fmt;
use std::sync::Arc;

use crate::BoxError;
use crate::section::{ConfigSection, ErasedSection};
use crate::services::BoxFuture;

type Ask = dyn Fn(ErasedSection, ErasedSection) -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync;

/// Someone who is asked before a section changes.
///
/// Asked on the workers' executor, after the new configuration was found valid and before anything is put to work, while all
/// others are asked too; only when the values of its own section change:
///
/// - **`Ok`**: no objection. Another may still refuse, so it changes nothing yet: what was published is seen by
///   [`Live`](super::Live).
/// - **`Err`**: a refusal. The running configuration stays, and the operator reads who refused and why.
/// - **Panic**, or no answer within `platform.config.prepare_timeout`: as `Err`.
///
/// # Cancel safety
/// It is dropped at the deadline, and when the process stops.
#[derive(Clone)]
pub struct BeforeChange {
    /// Its name in reports.
    pub name: String,
    /// The table it is asked about.
    pub table: String,
    ask: Arc<Ask>,
}

impl BeforeChange {
    /// Asks `ask` about a table that is declared as `T`: the running section, then the new one.
    pub fn new<T, F, Fut>(name: impl Into<String>, table: impl Into<String>, ask: F) -> Self
    where
        T: ConfigSection,
        F: Fn(Arc<T>, Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let ask = move |old: ErasedSection, new: ErasedSection| -> BoxFuture<'static, Result<(), BoxError>> {
            match (old.downcast::<T>(), new.downcast::<T>()) {
                (Ok(old), Ok(new)) => Box::pin(ask(old, new)),
                _ => {
                    let name = std::any::type_name::<T>();
                    Box::pin(
                        async move { Err(format!("it asks for the section as {name}, which was not declared").into()) },
                    )
                }
            }
        };
        Self {
            name: name.into(),
            table: table.into(),
            ask: Arc::new(ask),
        }
    }

    /// Asks: the running section, then the new one.
    pub fn ask(&self, old: ErasedSection, new: ErasedSection) -> BoxFuture<'static, Result<(), BoxError>> {
        (self.ask)(old, new)
    }
}

impl fmt::Debug for BeforeChange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, table, .. } = self;
        out.debug_struct("BeforeChange")
            .field("name", name)
            .field("table", table)
            .finish_non_exhaustive()
    }
}
