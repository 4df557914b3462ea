//! The control plane's token as a part that follows the configuration: it is read again at every reload, and from then on the
//! one before is unknown. Where it comes from lives in `crate::token`.

use std::path::PathBuf;

use async_trait::async_trait;
use plba_contracts::secret::Secret;
use tracing::{info, warn};

use crate::TARGET;
use crate::blueprint::platform_of;
use crate::config::Configuration;
use crate::config::change::{LivePart, Proposal, Refusal};
use crate::control::ControlPlane;
use crate::platform::{ControlConfig, PlatformConfig};
use crate::token::{self, TokenError};

/// The token.
pub(super) struct TokenPart {
    plane: ControlPlane,
    /// By what it was read.
    config: ControlConfig,
    state_dir: PathBuf,
    /// The other one that was found while it was prepared.
    prepared: Option<Secret>,
    /// The one before, for the way back.
    before: Option<Secret>,
}

impl TokenPart {
    pub(super) fn new(plane: ControlPlane, platform: &PlatformConfig) -> Self {
        Self {
            plane,
            config: platform.control.clone(),
            state_dir: platform.state_dir.as_path().to_owned(),
            prepared: None,
            before: None,
        }
    }

    /// The token by these settings, if it is another one than is known.
    fn another(&self, config: &ControlConfig) -> Result<Option<Secret>, TokenError> {
        let found = match token::existing(config, &self.state_dir) {
            Ok(found) => found,
            // The one that was made here is known as long as the process lives, whatever has become of its file.
            Err(_) if config.token.is_none() && config.token_file.is_none() => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok((!self.plane.knows(found.expose())).then_some(found))
    }
}

fn control_of(configuration: &Configuration) -> Result<ControlConfig, String> {
    let platform = platform_of(configuration).map_err(|error| error.to_string())?;
    Ok(platform.control.clone())
}

#[async_trait]
impl LivePart for TokenPart {
    fn name(&self) -> &str {
        "token"
    }

    /// Its file may say otherwise though no value has changed. One that can't be used is told by preparing.
    fn unfinished(&self) -> bool {
        !matches!(self.another(&self.config), Ok(None))
    }

    async fn prepare(&mut self, proposal: &Proposal) -> Result<(), Refusal> {
        self.prepared = None;
        let config = control_of(&proposal.next).map_err(Refusal::Reason)?;
        match self.another(&config) {
            Ok(another) => self.prepared = another,
            // The way back must not fail because of it; who is known stays known.
            Err(error) if proposal.back => warn!(target: TARGET, "the token stays as it is: {error}"),
            Err(error) => return Err(Refusal::Reason(error.to_string())),
        }
        Ok(())
    }

    async fn apply(&mut self, proposal: &Proposal) -> Result<(), String> {
        self.config = control_of(&proposal.next)?;
        self.before = self.prepared.take().map(|token| self.plane.admit(token));
        if self.before.is_some() {
            info!(target: TARGET, "the control plane has another token; the one before is unknown from now on");
        }
        Ok(())
    }

    async fn undo(&mut self, proposal: &Proposal) -> Result<(), String> {
        self.config = control_of(&proposal.running)?;
        if let Some(before) = self.before.take() {
            self.plane.admit(before);
        }
        Ok(())
    }
}
