//! Connections: what all of a backend's connections share, and one connection that is made anew when it breaks. Nothing
//! here knows what the scripts do.

mod connect;
mod live;

use std::future::Future;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_net::{Backoff, BackoffSettings, ClientConfig};
use redis::{Cmd, Pipeline, Value};
use tokio::time::{Instant, sleep_until, timeout};

use self::live::Live;
use crate::failure::{Failure, Kind};
use crate::keys::Keys;
use crate::script::Script;
use crate::settings::RedisSettings;
use crate::status::Counters;

pub(crate) use self::live::Arguments;

/// Opening a connection, with finding out where to, may take so long.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How often a call that was certainly not carried out is tried where the queue is now.
const REDIRECTIONS: usize = 5;

/// Why a queue, a ledger or leases on Redis could not be opened. The sentence says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{site}: {reason}")]
pub struct OpenError {
    pub(crate) site: String,
    pub(crate) reason: String,
}

/// What the connections of one backend share.
pub(crate) struct Shared {
    pub(crate) settings: RedisSettings,
    pub(crate) keys: Keys,
    pub(crate) counters: Counters,
    /// Overrides the server's time, for tests.
    pub(crate) clock: Option<Arc<dyn Clock>>,
    tls: Option<Arc<ClientConfig>>,
    digests: [OnceLock<String>; Script::ALL.len()],
    began: Instant,
    /// The server's time less the time since `began`, in microseconds.
    offset: AtomicI64,
    complained: AtomicU64,
}

impl Shared {
    /// Reads the files of TLS, so not to be called often.
    pub(crate) fn new(settings: RedisSettings, clock: Option<Arc<dyn Clock>>) -> Result<Arc<Self>, OpenError> {
        let error = |reason| OpenError {
            site: settings.site.to_string(),
            reason,
        };
        settings.validate().map_err(error)?;
        let tls = settings.tls.as_ref().map(|tls| tls.client_config()).transpose();
        Ok(Arc::new(Self {
            tls: tls.map_err(|fault| error(fault.to_string()))?,
            keys: Keys::new(&settings.prefix),
            settings,
            counters: Counters::default(),
            clock,
            digests: Default::default(),
            began: Instant::now(),
            offset: AtomicI64::new(0),
            complained: AtomicU64::new(0),
        }))
    }

    /// What scripts take as the time: nothing, for the server's own, or the injected time in milliseconds.
    pub(crate) fn time_argument(&self) -> String {
        self.clock.as_ref().map_or_else(String::new, |clock| {
            let microseconds = clock.now().as_microsecond();
            format!("{}.{:03}", microseconds.div_euclid(1000), microseconds.rem_euclid(1000))
        })
    }

    /// The server's time, as near as its latest answer tells.
    pub(crate) fn now(&self) -> Timestamp {
        let microseconds = match &self.clock {
            Some(clock) => clock.now().as_microsecond(),
            None => self.elapsed() + self.offset.load(Relaxed),
        };
        Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The server said what time it is, in milliseconds.
    pub(crate) fn learn_time(&self, milliseconds: f64) {
        self.offset
            .store((milliseconds * 1000.0) as i64 - self.elapsed(), Relaxed);
    }

    /// How far away a time of the server is, in milliseconds; 0 when it has passed.
    pub(crate) fn until(&self, milliseconds: f64) -> Duration {
        let now = self.now().as_microsecond() as f64 / 1000.0;
        Duration::try_from_secs_f64((milliseconds - now).max(0.0) / 1000.0).unwrap_or(Duration::MAX)
    }

    fn elapsed(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    /// Logs a failure, at most one a second.
    pub(crate) fn complain(&self, sentence: &str) {
        self.counters.failed(sentence);
        let second = self.began.elapsed().as_secs() + 1;
        if self.complained.swap(second, Relaxed) != second {
            tracing::warn!(site = %self.settings.site, "{sentence}");
        }
    }
}

/// A connection that is made when it is first needed, and anew after it broke. Calls on it are pipelined.
pub(crate) struct Link {
    pub(crate) shared: Arc<Shared>,
    current: Mutex<Option<Arc<Live>>>,
    attempts: AtomicU64,
    connecting: tokio::sync::Mutex<Connecting>,
}

struct Connecting {
    backoff: Backoff,
    not_before: Option<Instant>,
    failure: Option<Failure>,
}

impl Link {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        let settings = BackoffSettings {
            first: Duration::from_millis(50),
            ceiling: Duration::from_secs(1),
            jitter: 0.5,
            stable_after: Duration::from_secs(5),
        };
        Self {
            shared: Arc::clone(shared),
            current: Mutex::new(None),
            attempts: AtomicU64::new(0),
            connecting: tokio::sync::Mutex::new(Connecting {
                backoff: Backoff::new(settings, fastrand::Rng::new()),
                not_before: None,
                failure: None,
            }),
        }
    }

    /// Runs a script.
    pub(crate) async fn call<K: AsRef<str>>(
        &self,
        script: Script,
        keys: &[K],
        arguments: &Arguments,
    ) -> Result<Value, Failure> {
        self.call_then(script, keys, arguments, None)
            .await
            .map(|(value, _)| value)
    }

    /// Runs a script, and then a command on the same connection.
    pub(crate) async fn call_then<K: AsRef<str>>(
        &self,
        script: Script,
        keys: &[K],
        arguments: &Arguments,
        then: Option<(&Cmd, Duration)>,
    ) -> Result<(Value, Option<Value>), Failure> {
        let digest = &self.shared.digests[script as usize];
        let limit = self.shared.settings.response_timeout;
        let mut redirections = 0;
        loop {
            let live = self.live().await?;
            let known = match digest.get() {
                Some(known) => known.clone(),
                None => self.watch(&live, live.load(script, limit)).await?,
            };
            let command = arguments.evalsha(&known, keys);
            match self.watch(&live, live.ask(&command, limit)).await {
                Ok(value) => {
                    digest.get_or_init(|| known);
                    let Some((command, limit)) = then else {
                        return Ok((value, None));
                    };
                    let after = self.watch(&live, live.ask(command, limit)).await?;
                    return Ok((value, Some(after)));
                }
                Err(failure) if failure.kind == Kind::NoScript && redirections < REDIRECTIONS => {
                    redirections += 1;
                    self.watch(&live, live.load(script, limit)).await?;
                }
                Err(failure) if failure.kind == Kind::Elsewhere && redirections < REDIRECTIONS => {
                    redirections += 1;
                    tokio::time::sleep(Duration::from_millis(50) * redirections as u32).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Asks one command; the answer may take `limit`.
    pub(crate) async fn ask(&self, command: &Cmd, limit: Duration) -> Result<Value, Failure> {
        let live = self.live().await?;
        self.watch(&live, live.ask(command, limit)).await
    }

    /// Carries out a transaction; gives the answers of its commands. Unless the connection breaks, a failure means that
    /// nothing was done.
    pub(crate) async fn transact(&self, transaction: &Pipeline) -> Result<Value, Failure> {
        let live = self.live().await?;
        let limit = self.shared.settings.response_timeout;
        self.watch(&live, live.transact(transaction, limit)).await
    }

    /// Gives a connection up when it broke or leads to the wrong server.
    async fn watch<T>(&self, live: &Arc<Live>, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        // A caller that goes away leaves an answer behind that nobody waits for; the connection stays in step.
        let outcome = call.await;
        if let Err(failure) = &outcome
            && matches!(failure.kind, Kind::Broken | Kind::Elsewhere)
        {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, live)) {
                *current = None;
            }
            drop(current);
            live.close();
            self.shared.complain(&failure.sentence);
        }
        outcome
    }

    fn current(&self) -> Option<Arc<Live>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().filter(|live| live.is_open()).cloned()
    }

    async fn live(&self) -> Result<Arc<Live>, Failure> {
        if let Some(live) = self.current() {
            return Ok(live);
        }
        let before = self.attempts.load(Relaxed);
        let mut connecting = self.connecting.lock().await;
        if let Some(live) = self.current() {
            return Ok(live);
        }
        // An attempt that failed while this caller waited for its turn is this caller's as well.
        if self.attempts.load(Relaxed) != before
            && let Some(failure) = &connecting.failure
        {
            return Err(failure.clone());
        }
        if let Some(time) = connecting.not_before {
            sleep_until(time).await;
        }
        let opening = timeout(CONNECT_LIMIT, connect::open(&self.shared)).await;
        self.attempts.fetch_add(1, Relaxed);
        let opened = opening.unwrap_or_else(|_| {
            Err(Failure::broken(format!(
                "{} did not answer within {} s; check that it runs and can be reached",
                self.shared.settings.site,
                CONNECT_LIMIT.as_secs()
            )))
        });
        let now = Instant::now();
        match opened {
            Ok(live) => {
                connecting.backoff.connected(now.into_std());
                (connecting.not_before, connecting.failure) = (None, None);
                let live = Arc::new(live);
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&live));
                Ok(live)
            }
            Err(failure) => {
                connecting.not_before = Some(now + connecting.backoff.failed(now.into_std()));
                connecting.failure = Some(failure.clone());
                self.shared.complain(&failure.sentence);
                Err(failure)
            }
        }
    }
}
