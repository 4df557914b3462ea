//! Typed services: how a module offers an object to its workers, views and other services, and how they ask for it.
//! Building in dependency order, sealing and stopping in reverse is the runtime's `ServiceContainer`.

use std::any::{Any, TypeId};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use serde::Serialize;

use crate::BoxError;
use crate::made_from::MadeFrom;

/// A boxed, sendable future, as constructors return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Which service: a type (often a trait object), and a name where an application has several of one type.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServiceKey {
    type_id: TypeId,
    type_name: &'static str,
    name: Option<Arc<str>>,
}

impl ServiceKey {
    /// The only service of this type.
    pub fn of<T: ?Sized + 'static>() -> Self {
        Self {
            type_id: TypeId::of::<T>(),
            type_name: std::any::type_name::<T>(),
            name: None,
        }
    }

    /// The service of this type with this name.
    pub fn named<T: ?Sized + 'static>(name: &str) -> Self {
        Self {
            name: Some(name.into()),
            ..Self::of::<T>()
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The path of a type says nothing to whoever runs the program.
        let word = |char: char| char.is_alphanumeric() || char == '_' || char == ':';
        for part in self.type_name.split_inclusive(|char| !word(char)) {
            out.write_str(part.rsplit_once("::").map_or(part, |(_, name)| name))?;
        }
        match &self.name {
            Some(name) => write!(out, " named \"{name}\""),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Why a service could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Nobody registered it: register it in a module's `assemble`, or ask for what is registered.
    #[error("no service {key} is registered, but {asked_by} asks for it; register it in a module's `assemble`")]
    Missing {
        /// What was asked for.
        key: ServiceKey,
        /// Who asked, the last asker last.
        asked_by: String,
    },
    /// Building it asks, in the end, for itself.
    #[error("services need each other in a circle: {circle}; let one of them ask later, or split what they share out")]
    Circle {
        /// The circle, as `a -> b -> a`.
        circle: String,
    },
    /// Its factory failed.
    #[error("service {key} could not be built: {source}")]
    Failed {
        /// What was being built.
        key: ServiceKey,
        /// Why it failed.
        source: BoxError,
    },
}

/// A service as the container holds it: an `Arc<T>` behind `Any`.
pub type ErasedService = Arc<dyn Any + Send + Sync>;

/// What stands behind a [`Services`] handle: the runtime's container, or a test's.
#[async_trait]
pub trait ServiceSource: Send + Sync {
    /// Gives the service, building it first if need be. `path` names who asks: the services that are being built
    /// because of each other, outermost first.
    ///
    /// The value is the `Arc<T>` of the key's type, erased.
    ///
    /// # Cancel safety
    /// A dropped call may leave the service unbuilt, never half-built.
    async fn resolve(&self, key: &ServiceKey, path: &[ServiceKey]) -> Result<ErasedService, ServiceError>;
}

/// The handle by which factories, workers and views ask for services. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    source: Arc<dyn ServiceSource>,
    path: Arc<[ServiceKey]>,
}

impl Services {
    /// A handle on a source, asking on behalf of `path`.
    pub fn new(source: Arc<dyn ServiceSource>, path: Vec<ServiceKey>) -> Self {
        Self {
            source,
            path: path.into(),
        }
    }

    /// Nobody's services, for who never asks: every question is answered with [`ServiceError::Missing`].
    #[must_use]
    pub fn none() -> &'static Self {
        static NONE: LazyLock<Services> = LazyLock::new(|| Services::new(Arc::new(NoServices), Vec::new()));
        &NONE
    }

    /// The only service of type `T`, which may be a trait object: `services.get::<dyn TaskQueue>()`.
    ///
    /// # Errors
    /// Nobody registered it, its factory failed, or it is being built because of the asker.
    pub async fn get<T: ?Sized + Send + Sync + 'static>(&self) -> Result<Arc<T>, ServiceError> {
        self.resolve(ServiceKey::of::<T>()).await
    }

    /// The service of type `T` registered under `name`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_named<T: ?Sized + Send + Sync + 'static>(&self, name: &str) -> Result<Arc<T>, ServiceError> {
        self.resolve(ServiceKey::named::<T>(name)).await
    }

    /// The same services and, before them, this one, which is asked for by its type.
    ///
    /// For what belongs to one worker's instance and not to the process.
    #[must_use]
    pub fn with<T: ?Sized + Send + Sync + 'static>(&self, service: Arc<T>) -> Self {
        let source = WithOne {
            key: ServiceKey::of::<T>(),
            service: Arc::new(service),
            others: Arc::clone(&self.source),
        };
        Self {
            source: Arc::new(source),
            path: Arc::clone(&self.path),
        }
    }

    /// The same services behind a source that may answer before them, for runtimes that give each instance its own.
    #[must_use]
    pub fn behind(&self, layer: impl FnOnce(Arc<dyn ServiceSource>) -> Arc<dyn ServiceSource>) -> Self {
        Self {
            source: layer(Arc::clone(&self.source)),
            path: Arc::clone(&self.path),
        }
    }

    async fn resolve<T: ?Sized + Send + Sync + 'static>(&self, key: ServiceKey) -> Result<Arc<T>, ServiceError> {
        let erased = self.source.resolve(&key, &self.path).await?;
        match erased.downcast_ref::<Arc<T>>() {
            Some(service) => Ok(Arc::clone(service)),
            // Only a source that breaks its promise gets here; for the asker that is the same as a missing service.
            None => Err(ServiceError::Missing {
                key,
                asked_by: "a source that holds another type under this key".into(),
            }),
        }
    }
}

/// A source without any service.
struct NoServices;

#[async_trait]
impl ServiceSource for NoServices {
    async fn resolve(&self, key: &ServiceKey, _path: &[ServiceKey]) -> Result<ErasedService, ServiceError> {
        Err(ServiceError::Missing {
            key: key.clone(),
            asked_by: "who has no services".into(),
        })
    }
}

/// A source with one service before those of another.
struct WithOne {
    key: ServiceKey,
    service: ErasedService,
    others: Arc<dyn ServiceSource>,
}

#[async_trait]
impl ServiceSource for WithOne {
    async fn resolve(&self, key: &ServiceKey, path: &[ServiceKey]) -> Result<ErasedService, ServiceError> {
        if *key == self.key {
            return Ok(Arc::clone(&self.service));
        }
        self.others.resolve(key, path).await
    }
}

type BuildFn<T> = dyn Fn(Services) -> BoxFuture<'static, Result<T, BoxError>> + Send + Sync;

/// An asynchronous constructor that may ask for services. Input and output belong here, not in `assemble`.
pub struct Build<T>(Arc<BuildFn<T>>);

impl<T> Build<T> {
    /// Wraps a constructor. It may be called several times, and each call gives a new value.
    pub fn new<F, Fut>(build: F) -> Self
    where
        F: Fn(Services) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, BoxError>> + Send + 'static,
    {
        Self(Arc::new(move |services| Box::pin(build(services))))
    }

    /// Whether both are the same constructor: clones of one.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Constructs one value.
    pub fn call(&self, services: Services) -> BoxFuture<'static, Result<T, BoxError>> {
        (self.0)(services)
    }
}

impl<T> Clone for Build<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

type CloseFn = dyn Fn(ErasedService) -> BoxFuture<'static, ()> + Send + Sync;

/// A service as a module registers it.
///
/// ```
/// use std::sync::{Arc, LazyLock};
/// use plba_contracts::services::ServiceDefinition;
///
/// struct Store;
/// struct Desk(Arc<Store>);
///
/// let store = ServiceDefinition::new::<Store, _, _>(|_| async { Ok(Arc::new(Store)) });
/// let desk = ServiceDefinition::new::<Desk, _, _>(|services| async move {
///     Ok(Arc::new(Desk(services.get::<Store>().await?))) // built first, because it is asked for
/// });
/// let desk = desk.on_close::<Desk, _, _>(|_desk| async { /* flush */ });
/// ```
#[derive(Clone)]
pub struct ServiceDefinition {
    /// What it is asked for by.
    pub key: ServiceKey,
    /// Builds it, once.
    pub build: Build<ErasedService>,
    /// What to do with it when the process stops; it is called after everything that asked for the service has stopped.
    pub close: Option<Arc<CloseFn>>,
    /// What it is made from, by which a reload knows whether it would be the same again.
    pub made_from: MadeFrom,
}

impl ServiceDefinition {
    /// A service built by `build`, asked for by its type.
    pub fn new<T, F, Fut>(build: F) -> Self
    where
        T: ?Sized + Send + Sync + 'static,
        F: Fn(Services) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Arc<T>, BoxError>> + Send + 'static,
    {
        Self {
            key: ServiceKey::of::<T>(),
            build: Build::new(move |services| {
                let building = build(services);
                async move { Ok(Arc::new(building.await?) as ErasedService) }
            }),
            close: None,
            made_from: MadeFrom::default(),
        }
    }

    /// Everything that its factory and its closing hold, as far as it may differ from one configuration to another: a reload
    /// that makes it from the same leaves the one that runs in its place, as long as all services that it has asked for stay
    /// too. Without this it is made anew whenever its module is. May be said in parts.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use plba_contracts::services::ServiceDefinition;
    ///
    /// struct Store(String);
    ///
    /// fn store(path: &str) -> ServiceDefinition {
    ///     let kept = path.to_owned();
    ///     ServiceDefinition::new::<Store, _, _>(move |_| {
    ///         let store = Store(kept.clone());
    ///         async move { Ok(Arc::new(store)) }
    ///     })
    ///     .made_from(path)
    /// }
    ///
    /// assert!(store("orders.db").made_from.is_same(&store("orders.db").made_from));
    /// assert!(!store("orders.db").made_from.is_same(&store("other.db").made_from));
    /// ```
    #[must_use]
    pub fn made_from(mut self, value: &(impl Serialize + ?Sized)) -> Self {
        self.made_from.value(value);
        self
    }

    /// Asked for by its type and this name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.key.name = Some(name.into());
        self
    }

    /// What to do with it at the end. A panic in it is caught and logged.
    #[must_use]
    pub fn on_close<T, F, Fut>(mut self, close: F) -> Self
    where
        T: ?Sized + Send + Sync + 'static,
        F: Fn(Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.close = Some(Arc::new(move |erased| match erased.downcast_ref::<Arc<T>>() {
            Some(service) => Box::pin(close(Arc::clone(service))),
            None => Box::pin(async {}),
        }));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_without_the_paths_of_its_types() {
        assert_eq!(ServiceKey::of::<dyn ServiceSource>().to_string(), "dyn ServiceSource");
        assert_eq!(
            ServiceKey::of::<Option<Vec<String>>>().to_string(),
            "Option<Vec<String>>"
        );
        assert_eq!(
            ServiceKey::named::<Services>("spare").to_string(),
            "Services named \"spare\""
        );
    }
}
