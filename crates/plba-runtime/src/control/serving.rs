//! The thread of its own on which transports are served, so that busy workers can't take the control plane down.

use std::sync::Arc;
use std::time::Duration;

use plba_contracts::control::{ControlSurface, ControlTransport, TransportSettings};
use plba_contracts::stop::StopHandle;
use plba_contracts::{BoxError, describe};
use tracing::warn;

use super::ControlPlane;

/// How long transports may take to finish what is in hand once the control plane stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// The transports of a control plane, served on a thread of their own.
pub struct ControlPlaneService {
    addresses: Vec<String>,
    stop: StopHandle,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl ControlPlaneService {
    /// Opens every transport and serves it.
    ///
    /// # Errors
    /// A transport can't listen, or the system gives no thread.
    pub async fn open(
        plane: ControlPlane,
        transports: Vec<Arc<dyn ControlTransport>>,
        settings: TransportSettings,
    ) -> Result<Self, BoxError> {
        let stop = StopHandle::new();
        let signal = stop.signal();
        let (opened, waiting) = tokio::sync::oneshot::channel();
        let serve = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(opened.send(Err(BoxError::from(error)))),
            };
            runtime.block_on(async move {
                let mut addresses = Vec::new();
                let mut serving = Vec::new();
                for transport in transports {
                    let surface = Arc::new(plane.clone()) as Arc<dyn ControlSurface>;
                    match transport.open(settings.clone(), surface, signal.clone()).await {
                        Ok(open) => {
                            addresses.push(open.address);
                            serving.push(open.serve);
                        }
                        Err(error) => return drop(opened.send(Err(error))),
                    }
                }
                if opened.send(Ok(addresses)).is_ok() {
                    let all = futures_util::future::join_all(serving);
                    let late = async {
                        signal.requested().await;
                        tokio::time::sleep(CLOSE_TIMEOUT).await;
                    };
                    tokio::select! { _ = all => {} () = late => {} }
                    // With no transport there is nothing to serve, but the thread's end means the control plane's.
                    signal.requested().await;
                }
            });
            runtime.shutdown_timeout(Duration::from_millis(100));
        };
        let thread = std::thread::Builder::new().name("control-plane".into()).spawn(serve)?;
        let addresses = waiting
            .await
            .map_err(|_| "the control plane's thread ended before it listened")??;
        Ok(Self {
            addresses,
            stop,
            thread: Some(thread),
        })
    }

    /// Where the transports listen.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Takes no more requests, finishes those in hand, and ends the thread; 3 s at most.
    pub async fn close(mut self) {
        self.stop.stop(false);
        let Some(thread) = self.thread.take() else { return };
        let joined = tokio::task::spawn_blocking(move || thread.join());
        if tokio::time::timeout(CLOSE_TIMEOUT + Duration::from_secs(1), joined)
            .await
            .is_err()
        {
            warn!("the control plane did not close in time and was left behind");
        }
    }
}

impl Drop for ControlPlaneService {
    fn drop(&mut self) {
        self.stop.stop(true);
    }
}

/// Writes an error of a transport with its sources, for the start-up error.
pub fn transport_failed(error: BoxError) -> String {
    format!("the control plane can't be served: {}", describe(error.as_ref()))
}
