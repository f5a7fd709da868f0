//! What a change of the settings does to the connections of one gateway on one shard.

use std::sync::Arc;

use crate::gateway::context::Context;
use crate::gateway::hub::Hub;
use crate::gateway::hub::flow::stay;
use crate::gateway::msg::PrimaryMsg;

impl Hub {
    /// The settings changed.
    pub(super) fn set_settings(&mut self, ctx: &mut Context) {
        let old = std::mem::replace(&mut self.settings, self.shared.settings());
        if old.max_connections_per_ip == 0 && self.settings.max_connections_per_ip > 0 {
            self.count_open_ips();
        }
        if old.ping_interval != self.settings.ping_interval
            || old.idle_timeout != self.settings.idle_timeout
        {
            for conn in self.conns.all() {
                self.with_conn(conn, ctx, |conn, lent| {
                    if conn.is_open() {
                        conn.set_ping(lent);
                        conn.arm(lent);
                    }
                    stay()
                });
            }
        }
        if old.idle_timeout.is_zero() && !self.settings.idle_timeout.is_zero() {
            // Without one, messages to channels are not noted.
            let now = ctx.now;
            for (slot, _) in self.conns.all() {
                if let Some(conn) = self.conns.get_mut(slot) {
                    conn.last_message = conn.last_message.max(now);
                }
            }
        }
        if let Some(primary) = &mut self.primary {
            primary.settings_changed(&self.shared, ctx);
            self.carry_out(ctx);
        }
        // In front of the first message that the listener is asked about.
        if self.settings.tells() && !old.tells() {
            self.announce(ctx);
        }
    }

    /// Tells the primary of every open connection: its listener begins to be told of them.
    fn announce(&mut self, ctx: &mut Context) {
        let infos = self.conns.iter().filter_map(|(slot, conn)| Some((conn.info()?.id, slot)));
        let mut slots: Vec<_> = infos.collect();
        slots.sort_unstable_by_key(|(id, _)| *id);
        for (_, slot) in slots {
            self.with(slot, ctx, |conn, lent| {
                if let Some(info) = conn.info() {
                    let channels = lent.rooms.names(lent.slot).into();
                    lent.tell_primary(PrimaryMsg::Opened(Arc::clone(info), channels));
                }
                stay()
            });
        }
    }
}
