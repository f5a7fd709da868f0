//! A running gateway as the supervisor of its listener sees it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::config::settings::GatewaySettings;
use crate::gateway::core::Core;
use crate::gateway::msg::{HubMsg, PrimaryMsg};
use crate::gateway::shared::Shared;
use crate::listener::metrics::ListenerMetrics;
use crate::listener::supervisor::ListenerHost;

/// One running gateway and the engine that runs it.
pub(super) struct RunningHost {
    pub(super) core: Arc<Core>,
    pub(super) shared: Arc<Shared>,
}

impl RunningHost {
    fn post(&self, msg: PrimaryMsg) {
        self.core.post_primary(&self.shared, msg);
    }
}

impl ListenerHost for RunningHost {
    fn id(&self) -> &Arc<str> {
        &self.shared.id
    }

    fn metrics(&self) -> &Arc<ListenerMetrics> {
        &self.shared.metrics.listener
    }

    fn settings(&self) -> Arc<GatewaySettings> {
        self.shared.settings()
    }

    fn apply_settings(&self, settings: Arc<GatewaySettings>) {
        self.shared.set_settings(settings);
        self.core.post_all(&self.shared, || HubMsg::Settings);
    }

    fn attach(&self, stdin: Option<OwnedFd>, stdout: OwnedFd) {
        self.post(PrimaryMsg::Attach(stdin, stdout));
    }

    fn close_stdin(&self) {
        self.post(PrimaryMsg::CloseStdin);
    }

    fn exited(&self, wanted: bool) {
        self.post(PrimaryMsg::Exited { wanted });
    }
}
