//! The service container: filled while modules assemble, sealed when it is made, built in the order in which services
//! ask for each other, closed in reverse. What a service is and how one asks for it live in the contracts.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use async_trait::async_trait;
use futures_util::FutureExt;
use plba_contracts::services::{ErasedService, ServiceDefinition, ServiceError, ServiceKey, ServiceSource, Services};
use tracing::{debug, warn};

use crate::panic::panic_message;

/// All services of a process, by key.
///
/// A service is built when it is first asked for, and then with everything it asks for itself; [`build_all`] asks for
/// every one. So the order of building is the order of need, without anybody writing it down, and a command that needs
/// one service builds that one and those below it.
///
/// [`build_all`]: Self::build_all
pub struct ServiceContainer {
    entries: HashMap<ServiceKey, Entry>,
    /// Registration order, so that a start is the same each time.
    order: Vec<ServiceKey>,
    /// Keys in the order in which they were completed.
    built: Mutex<Vec<ServiceKey>>,
    /// One building at a time: two that need each other's half-built services would wait for each other.
    building: tokio::sync::Mutex<()>,
}

struct Entry {
    definition: Option<ServiceDefinition>,
    cell: RwLock<Cell>,
}

/// Where one service is kept.
#[derive(Clone, Default)]
enum Cell {
    #[default]
    NotBuilt,
    Built(ErasedService),
    /// Let go; it is not built a second time.
    Closed,
}

impl Entry {
    fn cell(&self) -> Cell {
        self.cell.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, cell: Cell) -> Cell {
        std::mem::replace(&mut *self.cell.write().unwrap_or_else(PoisonError::into_inner), cell)
    }
}

/// Two modules registered the same service.
#[derive(Debug, thiserror::Error)]
#[error("service {0} is registered twice; give one of them a name with `.named(..)`")]
pub struct DuplicateService(ServiceKey);

impl ServiceContainer {
    /// A sealed container of these services; nothing is built yet.
    ///
    /// # Errors
    /// Two definitions have the same key.
    pub fn new(definitions: Vec<ServiceDefinition>, provided: Provided) -> Result<Self, DuplicateService> {
        let mut entries = HashMap::new();
        let mut order = Vec::new();
        for (key, service) in provided.0 {
            entries.insert(
                key,
                Entry {
                    definition: None,
                    cell: RwLock::new(Cell::Built(service)),
                },
            );
        }
        for definition in definitions {
            let key = definition.key.clone();
            if entries.contains_key(&key) {
                return Err(DuplicateService(key));
            }
            order.push(key.clone());
            entries.insert(
                key,
                Entry {
                    definition: Some(definition),
                    cell: RwLock::default(),
                },
            );
        }
        Ok(Self {
            entries,
            order,
            built: Mutex::default(),
            building: tokio::sync::Mutex::default(),
        })
    }

    /// A handle by which anybody asks.
    pub fn services(self: &Arc<Self>) -> Services {
        self.asked_by(Vec::new())
    }

    /// Builds every service, each after those it asks for.
    ///
    /// # Errors
    /// The first service that can't be built; those built by then stay until [`close_all`](Self::close_all).
    pub async fn build_all(self: &Arc<Self>) -> Result<(), ServiceError> {
        for key in &self.order {
            Handle(Arc::clone(self)).resolve(key, &[]).await?;
        }
        Ok(())
    }

    /// Closes what was built here, the last one first. A panic while closing is logged and does not keep the others open.
    pub async fn close_all(&self) {
        self.close(|_| true).await;
    }

    /// Closes those of the services that were built here whose keys are wanted, the last one first; those that are not
    /// built yet never will be. Waits for a building that is under way.
    pub async fn close(&self, wanted: impl Fn(&ServiceKey) -> bool) {
        let _alone = self.building.lock().await;
        let closing: Vec<ServiceKey> = {
            let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
            let (closing, kept) = built.drain(..).partition(|key| wanted(key));
            *built = kept;
            closing
        };
        for key in closing.into_iter().rev() {
            self.close_one(&key).await;
        }
        for (_, entry) in self.entries.iter().filter(|(key, _)| wanted(key)) {
            if matches!(entry.cell(), Cell::NotBuilt) {
                entry.put(Cell::Closed);
            }
        }
    }

    /// Whether anything that was built here is still open.
    pub fn holds_any(&self) -> bool {
        !self.built.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes the service out of its cell, so that what it holds is let go when the last user is done with it.
    async fn close_one(&self, key: &ServiceKey) {
        let Some(entry) = self.entries.get(key) else { return };
        let Cell::Built(service) = entry.put(Cell::Closed) else {
            return;
        };
        debug!(service = %key, "closing");
        let close = entry
            .definition
            .as_ref()
            .and_then(|definition| definition.close.clone());
        let Some(close) = close else { return };
        if let Err(panic) = AssertUnwindSafe(async { close(service).await }).catch_unwind().await {
            warn!(service = %key, reason = panic_message(panic.as_ref()), "closing a service panicked");
        }
    }

    fn asked_by(self: &Arc<Self>, path: Vec<ServiceKey>) -> Services {
        Services::new(Arc::new(Handle(Arc::clone(self))), path)
    }

    /// Builds what is not built yet. `path` is who asks, this key not among them.
    async fn build(self: &Arc<Self>, key: &ServiceKey, path: &[ServiceKey]) -> Result<ErasedService, ServiceError> {
        let missing = || ServiceError::Missing {
            key: key.clone(),
            asked_by: who(path),
        };
        let entry = self.entries.get(key).ok_or_else(missing)?;
        match entry.cell() {
            Cell::Built(service) => return Ok(service),
            Cell::Closed => return Err(closed(key)),
            Cell::NotBuilt => {}
        }
        let definition = entry.definition.as_ref().ok_or_else(missing)?;
        debug!(service = %key, "building");
        let mut inner = path.to_vec();
        inner.push(key.clone());
        let building = AssertUnwindSafe(async { definition.build.call(self.asked_by(inner)).await }).catch_unwind();
        let built = building
            .await
            .unwrap_or_else(|panic| Err(panic_message(panic.as_ref()).into()));
        let service = built.map_err(|source| unnest(key, source))?;
        entry.put(Cell::Built(Arc::clone(&service)));
        self.built
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(key.clone());
        Ok(service)
    }
}

fn closed(key: &ServiceKey) -> ServiceError {
    let source = "it is closed, because the process stops or takes up a new configuration; ask again in a moment";
    ServiceError::Failed {
        key: key.clone(),
        source: source.into(),
    }
}

/// An error of a service below is that service's, not one of each service above it.
fn unnest(key: &ServiceKey, source: plba_contracts::BoxError) -> ServiceError {
    match source.downcast::<ServiceError>() {
        Ok(inner) => *inner,
        Err(source) => ServiceError::Failed {
            key: key.clone(),
            source,
        },
    }
}

fn who(path: &[ServiceKey]) -> String {
    match path.last() {
        Some(key) => format!("service {key}"),
        None => "a worker, view or contributor".into(),
    }
}

struct Handle(Arc<ServiceContainer>);

#[async_trait]
impl ServiceSource for Handle {
    async fn resolve(&self, key: &ServiceKey, path: &[ServiceKey]) -> Result<ErasedService, ServiceError> {
        let container = &self.0;
        if let Some(Cell::Built(service)) = container.entries.get(key).map(Entry::cell) {
            return Ok(service);
        }
        if let Some(start) = path.iter().position(|asking| asking == key) {
            let circle = path[start..]
                .iter()
                .chain(std::iter::once(key))
                .map(ToString::to_string)
                .collect::<Vec<_>>();
            return Err(ServiceError::Circle {
                circle: circle.join(" -> "),
            });
        }
        let _alone = if path.is_empty() {
            Some(container.building.lock().await)
        } else {
            None
        };
        container.build(key, path).await
    }
}

/// Services that exist before any module assembles: the platform's own.
#[derive(Clone, Default)]
pub struct Provided(Vec<(ServiceKey, ErasedService)>);

impl Provided {
    /// Adds what another container has built under these keys; it stays the other's to close.
    #[must_use]
    pub fn carried_over(mut self, from: &ServiceContainer, keys: impl IntoIterator<Item = ServiceKey>) -> Self {
        for key in keys {
            if let Some(Cell::Built(service)) = from.entries.get(&key).map(Entry::cell) {
                self.0.push((key, service));
            }
        }
        self
    }

    /// Adds a ready-made service.
    #[must_use]
    pub fn with<T: ?Sized + Send + Sync + 'static>(mut self, service: Arc<T>) -> Self {
        self.0.push((ServiceKey::of::<T>(), Arc::new(service)));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Low(&'static str);
    struct High(Arc<Low>);

    fn container(definitions: Vec<ServiceDefinition>) -> Arc<ServiceContainer> {
        Arc::new(ServiceContainer::new(definitions, Provided::default()).unwrap())
    }

    fn high() -> ServiceDefinition {
        ServiceDefinition::new::<High, _, _>(|services| async move { Ok(Arc::new(High(services.get::<Low>().await?))) })
    }

    #[tokio::test]
    async fn services_are_built_as_they_need_each_other_and_closed_in_reverse() {
        let closed = Arc::new(Mutex::new(Vec::new()));
        let (first, second) = (Arc::clone(&closed), Arc::clone(&closed));
        let low = ServiceDefinition::new::<Low, _, _>(|_| async { Ok(Arc::new(Low("low"))) });
        let container = container(vec![
            high().on_close::<High, _, _>(move |_| {
                first.lock().unwrap().push("high");
                async {}
            }),
            low.on_close::<Low, _, _>(move |low| {
                second.lock().unwrap().push(low.0);
                async {}
            }),
        ]);
        container.build_all().await.unwrap();
        assert_eq!(container.services().get::<High>().await.unwrap().0.0, "low");
        container.close_all().await;
        assert_eq!(*closed.lock().unwrap(), ["high", "low"]);
    }

    #[tokio::test]
    async fn a_closed_service_is_let_go_and_not_built_again() {
        let low = ServiceDefinition::new::<Low, _, _>(|_| async { Ok(Arc::new(Low("low"))) });
        let container = container(vec![low]);
        let low = Arc::downgrade(&container.services().get::<Low>().await.unwrap());
        container.close_all().await;
        assert!(low.upgrade().is_none());
        let Err(error) = container.services().get::<Low>().await else {
            panic!("built again")
        };
        assert!(error.to_string().contains("it is closed"), "{error}");
    }

    #[tokio::test]
    async fn a_missing_service_names_who_asked() {
        let error = container(vec![high()]).build_all().await.unwrap_err().to_string();
        assert!(
            error.contains("no service") && error.contains("Low") && error.contains("High asks"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_circle_is_drawn() {
        let low = ServiceDefinition::new::<Low, _, _>(|services| async move {
            services.get::<High>().await?;
            Ok(Arc::new(Low("never")))
        });
        let error = container(vec![high(), low]).build_all().await.unwrap_err().to_string();
        assert!(
            error.contains("High -> ") && error.matches("High").count() == 2,
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_panic_while_building_is_that_services_failure() {
        let low = ServiceDefinition::new::<Low, _, _>(|_| async { panic!("no disk") });
        let error = container(vec![high(), low]).build_all().await.unwrap_err().to_string();
        assert!(
            error.contains("Low could not be built") && error.contains("no disk"),
            "{error}"
        );
    }

    #[test]
    fn one_key_has_one_service() {
        let twice = vec![high(), high()];
        assert!(ServiceContainer::new(twice, Provided::default()).is_err());
    }
}
