//! The service container: filled while modules assemble, sealed when it is made, built in the order in which services
//! ask for each other, closed in reverse. A reload changes only what would be another one. What a service is and how one asks
//! for it live in the contracts.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

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
/// A reload [puts](Self::put) other definitions in the place of some. Handles stay good: who asks by one gets what stands there
/// at that time. Because it is noted who asked for what, those that would hold a service that is gone are made anew with it.
///
/// [`build_all`]: Self::build_all
pub struct ServiceContainer {
    shelf: RwLock<Shelf>,
    /// What was built and is open, in the order in which it was completed.
    built: Mutex<Vec<(ServiceKey, Arc<Entry>)>>,
    /// One building at a time: two that need each other's half-built services would wait for each other.
    building: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Shelf {
    entries: HashMap<ServiceKey, Arc<Entry>>,
    /// Registration order, so that a start is the same each time.
    order: Vec<ServiceKey>,
}

struct Entry {
    /// `None` for what was there before any module assembled.
    definition: Option<ServiceDefinition>,
    cell: RwLock<Cell>,
    /// What it has asked for, also if nobody had registered that.
    asked_for: Mutex<HashSet<ServiceKey>>,
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
    fn new(definition: Option<ServiceDefinition>, cell: Cell) -> Arc<Self> {
        Arc::new(Self {
            definition,
            cell: RwLock::new(cell),
            asked_for: Mutex::default(),
        })
    }

    fn cell(&self) -> Cell {
        self.cell.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, cell: Cell) -> Cell {
        std::mem::replace(&mut *self.cell.write().unwrap_or_else(PoisonError::into_inner), cell)
    }

    fn asked_for(&self) -> MutexGuard<'_, HashSet<ServiceKey>> {
        self.asked_for.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it can stay where this is wanted: it is open, and it would be the same again.
    fn would_be(&self, wanted: &ServiceDefinition) -> bool {
        let same =
            |own: &ServiceDefinition| own.build.is_same(&wanted.build) || own.made_from.is_same(&wanted.made_from);
        matches!(self.cell(), Cell::Built(_)) && self.definition.as_ref().is_some_and(same)
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
        let provided = provided.0.into_iter();
        let entries = provided.map(|(key, service)| (key, Entry::new(None, Cell::Built(service))));
        let container = Self {
            shelf: RwLock::new(Shelf {
                entries: entries.collect(),
                order: Vec::new(),
            }),
            built: Mutex::default(),
            building: tokio::sync::Mutex::default(),
        };
        container.differences(&definitions)?;
        container.shelve(&HashSet::new(), definitions);
        Ok(container)
    }

    /// A handle by which anybody asks.
    pub fn services(self: &Arc<Self>) -> Services {
        Services::new(Arc::new(Handle::outside(Arc::clone(self))), Vec::new())
    }

    /// Builds every service, each after those it asks for.
    ///
    /// # Errors
    /// The first service that can't be built; those built by then stay until [`close_all`](Self::close_all).
    pub async fn build_all(self: &Arc<Self>) -> Result<(), ServiceError> {
        let order = self.shelf().order.clone();
        for key in &order {
            Handle::outside(Arc::clone(self)).resolve(key, &[]).await?;
        }
        Ok(())
    }

    /// The keys of services that can't stay as they are if these definitions are to stand in the place of all there are:
    /// those that come, go, would be another one, or are not open; and those that have asked for any of them.
    ///
    /// # Errors
    /// Two definitions have the same key, or one is the platform's.
    pub fn differences(&self, wanted: &[ServiceDefinition]) -> Result<HashSet<ServiceKey>, DuplicateService> {
        let shelf = self.shelf();
        let mut by_key = HashMap::with_capacity(wanted.len());
        for definition in wanted {
            let own = shelf.entries.get(&definition.key);
            let provided = own.is_some_and(|entry| entry.definition.is_none());
            if provided || by_key.insert(&definition.key, definition).is_some() {
                return Err(DuplicateService(definition.key.clone()));
            }
        }
        let stays = |key: &ServiceKey| {
            let entry = shelf.entries.get(key);
            entry
                .zip(by_key.get(key))
                .is_some_and(|(entry, wanted)| entry.would_be(wanted))
        };
        let keys = shelf
            .order
            .iter()
            .chain(wanted.iter().map(|definition| &definition.key));
        let mut differ: HashSet<ServiceKey> = keys.filter(|key| !stays(key)).cloned().collect();
        loop {
            let touched = shelf.entries.iter().filter(|(key, entry)| {
                entry.definition.is_some() && !differ.contains(*key) && !entry.asked_for().is_disjoint(&differ)
            });
            let touched: Vec<ServiceKey> = touched.map(|(key, _)| key.clone()).collect();
            if touched.is_empty() {
                return Ok(differ);
            }
            differ.extend(touched);
        }
    }

    /// Closes the services that differ, the last one built first, and puts these definitions in the place of all there are.
    /// Services that don't differ stay as they are, built from the definition that they were built from. Nothing new is
    /// built yet.
    pub async fn put(&self, wanted: Vec<ServiceDefinition>, differ: &HashSet<ServiceKey>) {
        self.close(|key| differ.contains(key)).await;
        self.shelve(differ, wanted);
    }

    /// Closes what was built here, the last one first. A panic while closing is logged and does not keep the others open.
    pub async fn close_all(&self) {
        self.close(|_| true).await;
    }

    fn shelf(&self) -> RwLockReadGuard<'_, Shelf> {
        self.shelf.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn shelve(&self, differ: &HashSet<ServiceKey>, wanted: Vec<ServiceDefinition>) {
        let mut shelf = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
        shelf.entries.retain(|key, _| !differ.contains(key));
        shelf.order = wanted.iter().map(|definition| definition.key.clone()).collect();
        for definition in wanted {
            let place = shelf.entries.entry(definition.key.clone());
            place.or_insert_with(|| Entry::new(Some(definition), Cell::NotBuilt));
        }
    }

    /// Closes those of the services that were built here whose keys are wanted, the last one first; those that are not
    /// built yet never will be. Waits for a building that is under way.
    async fn close(&self, wanted: impl Fn(&ServiceKey) -> bool) {
        let _alone = self.building.lock().await;
        let closing: Vec<(ServiceKey, Arc<Entry>)> = {
            let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
            let (closing, kept) = built.drain(..).partition(|(key, _)| wanted(key));
            *built = kept;
            closing
        };
        for (key, entry) in closing.into_iter().rev() {
            close_one(&key, &entry).await;
        }
        for (_, entry) in self.shelf().entries.iter().filter(|(key, _)| wanted(key)) {
            if matches!(entry.cell(), Cell::NotBuilt) {
                entry.put(Cell::Closed);
            }
        }
    }

    /// Builds what is not built yet. `path` is who asks, this key not among them.
    async fn build(
        self: &Arc<Self>,
        key: &ServiceKey,
        entry: Arc<Entry>,
        path: &[ServiceKey],
    ) -> Result<ErasedService, ServiceError> {
        match entry.cell() {
            Cell::Built(service) => return Ok(service),
            Cell::Closed => return Err(closed(key)),
            Cell::NotBuilt => {}
        }
        let Some(definition) = &entry.definition else {
            return Err(missing(key, path));
        };
        debug!(service = %key, "building");
        let mut inner = path.to_vec();
        inner.push(key.clone());
        let asking = Arc::new(Handle {
            container: Arc::clone(self),
            asker: Some(Arc::clone(&entry)),
            within: AtomicBool::new(true),
        });
        let services = Services::new(Arc::clone(&asking) as Arc<dyn ServiceSource>, inner);
        let building = AssertUnwindSafe(async { definition.build.call(services).await }).catch_unwind();
        let built = building
            .await
            .unwrap_or_else(|panic| Err(panic_message(panic.as_ref()).into()));
        asking.within.store(false, Ordering::Release);
        let service = built.map_err(|source| unnest(key, source))?;
        entry.put(Cell::Built(Arc::clone(&service)));
        self.built
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((key.clone(), Arc::clone(&entry)));
        Ok(service)
    }
}

/// Takes the service out of its cell, so that what it holds is let go when the last user is done with it.
async fn close_one(key: &ServiceKey, entry: &Entry) {
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

fn closed(key: &ServiceKey) -> ServiceError {
    let source = "it is closed, because the process stops or takes up a new configuration; ask again in a moment";
    ServiceError::Failed {
        key: key.clone(),
        source: source.into(),
    }
}

fn missing(key: &ServiceKey, path: &[ServiceKey]) -> ServiceError {
    ServiceError::Missing {
        key: key.clone(),
        asked_by: who(path),
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

/// By which one service asks for others, or somebody who is none.
struct Handle {
    container: Arc<ServiceContainer>,
    asker: Option<Arc<Entry>>,
    /// Whether the asker is being built, so that its question is part of a building that is under way.
    within: AtomicBool,
}

impl Handle {
    fn outside(container: Arc<ServiceContainer>) -> Self {
        Self {
            container,
            asker: None,
            within: AtomicBool::new(false),
        }
    }
}

#[async_trait]
impl ServiceSource for Handle {
    async fn resolve(&self, key: &ServiceKey, path: &[ServiceKey]) -> Result<ErasedService, ServiceError> {
        let container = &self.container;
        if let Some(asker) = &self.asker {
            asker.asked_for().insert(key.clone());
        }
        let entry = |container: &ServiceContainer| container.shelf().entries.get(key).map(Arc::clone);
        if let Some(Cell::Built(service)) = entry(container).map(|entry| entry.cell()) {
            return Ok(service);
        }
        let within = self.within.load(Ordering::Acquire);
        let start = path.iter().position(|asking| asking == key);
        if let Some(start) = start.filter(|_| within) {
            let circle = path[start..]
                .iter()
                .chain(std::iter::once(key))
                .map(ToString::to_string)
                .collect::<Vec<_>>();
            return Err(ServiceError::Circle {
                circle: circle.join(" -> "),
            });
        }
        let _alone = match within {
            true => None,
            false => Some(container.building.lock().await),
        };
        // Asked again: while this waited, another one may have taken its place.
        let entry = entry(container).ok_or_else(|| missing(key, path))?;
        container.build(key, entry, if within { path } else { &[] }).await
    }
}

/// Services that exist before any module assembles: the platform's own.
#[derive(Clone, Default)]
pub struct Provided(Vec<(ServiceKey, ErasedService)>);

impl Provided {
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

    /// `Low` from `text`, which `High` asks for, and one that asks for neither.
    fn three(text: &'static str, closed: &Arc<Mutex<Vec<&'static str>>>) -> Vec<ServiceDefinition> {
        let noting = || {
            let closed = Arc::clone(closed);
            move |name: &'static str| {
                closed.lock().unwrap().push(name);
                std::future::ready(())
            }
        };
        let low = ServiceDefinition::new::<Low, _, _>(move |_| async move { Ok(Arc::new(Low(text))) });
        let alone = ServiceDefinition::new::<u8, _, _>(|_| async { Ok(Arc::new(7)) });
        let (note_high, note_low, note_alone) = (noting(), noting(), noting());
        vec![
            high()
                .made_from("nothing")
                .on_close::<High, _, _>(move |_| note_high("high")),
            low.made_from(text).on_close::<Low, _, _>(move |low| note_low(low.0)),
            alone
                .made_from("nothing")
                .on_close::<u8, _, _>(move |_| note_alone("alone")),
        ]
    }

    #[tokio::test]
    async fn what_would_be_the_same_stays_and_who_asked_for_what_differs_goes_with_it() {
        let closed = Arc::new(Mutex::new(Vec::new()));
        let container = container(three("low", &closed));
        container.build_all().await.unwrap();
        let services = container.services();
        let (high_before, alone) = (
            services.get::<High>().await.unwrap(),
            services.get::<u8>().await.unwrap(),
        );
        assert!(container.differences(&three("low", &closed)).unwrap().is_empty());

        let differ = container.differences(&three("lower", &closed)).unwrap();
        assert_eq!(
            differ,
            HashSet::from([ServiceKey::of::<Low>(), ServiceKey::of::<High>()])
        );
        container.put(three("lower", &closed), &differ).await;
        assert_eq!(*closed.lock().unwrap(), ["high", "low"]);
        container.build_all().await.unwrap();
        assert_eq!(high_before.0.0, "low", "who still holds it has what it was");
        assert_eq!(services.get::<High>().await.unwrap().0.0, "lower", "the same handle");
        assert!(Arc::ptr_eq(&services.get::<u8>().await.unwrap(), &alone));

        let fewer = three("lower", &closed).split_off(1);
        let differ = container.differences(&fewer).unwrap();
        container.put(fewer, &differ).await;
        assert_eq!(differ, HashSet::from([ServiceKey::of::<High>()]));
        assert!(services.get::<High>().await.is_err());
        container.close_all().await;
        assert_eq!(*closed.lock().unwrap(), ["high", "low", "high", "lower", "alone"]);
    }

    #[tokio::test]
    async fn a_service_that_comes_is_a_difference_to_who_asked_for_it_in_vain() {
        let optional = ServiceDefinition::new::<Option<u8>, _, _>(|services| async move {
            Ok(Arc::new(services.get::<u8>().await.ok().map(|number| *number)))
        });
        let optional = optional.made_from("nothing");
        let container = container(vec![optional.clone()]);
        container.build_all().await.unwrap();
        let number = ServiceDefinition::new::<u8, _, _>(|_| async { Ok(Arc::new(7)) });
        let wanted = vec![optional, number];
        let differ = container.differences(&wanted).unwrap();
        container.put(wanted, &differ).await;
        assert_eq!(*container.services().get::<Option<u8>>().await.unwrap(), Some(7));
    }

    #[tokio::test]
    async fn who_asks_long_after_it_was_built_is_noted_and_waits_its_turn() {
        struct Late(Services);
        let late = || {
            let late = ServiceDefinition::new::<Late, _, _>(|services| async move { Ok(Arc::new(Late(services))) });
            late.made_from("nothing")
        };
        let low = |text: &'static str| {
            let low = ServiceDefinition::new::<Low, _, _>(move |_| async move { Ok(Arc::new(Low(text))) });
            low.made_from(text)
        };
        let container = container(vec![late(), low("low")]);
        container.build_all().await.unwrap();
        let held = container.services().get::<Late>().await.unwrap();
        let lower = || vec![late(), low("lower")];
        assert_eq!(container.differences(&lower()).unwrap().len(), 1, "it has not asked");
        assert_eq!(held.0.get::<Low>().await.unwrap().0, "low");
        assert_eq!(container.differences(&lower()).unwrap().len(), 2, "it has");
        // Its handle is as good as any: it gets what stands there now.
        container.put(lower(), &HashSet::from([ServiceKey::of::<Low>()])).await;
        let (one, other) = tokio::join!(held.0.get::<Low>(), container.build_all());
        other.unwrap();
        assert!(
            Arc::ptr_eq(&one.unwrap(), &container.services().get::<Low>().await.unwrap()),
            "built once"
        );
    }

    #[test]
    fn one_key_has_one_service() {
        let twice = vec![high(), high()];
        assert!(ServiceContainer::new(twice, Provided::default()).is_err());
    }
}
