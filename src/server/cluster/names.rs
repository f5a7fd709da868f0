//! What a gateway's things on the NATS servers are called.

use crate::listener::protocol::node::Node;

/// The first word of the subjects by which one node is told something.
const PRIVATE: &str = "wsgw-node";

/// The names of a gateway's things on the servers. They hold the gateway's id; a dot, which
/// separates the words of a subject, is written `~` there.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The stream.
    pub(super) stream: String,
    /// The subject of what nodes tell each other.
    pub(super) messages: String,
    /// The subject of the nodes' signs of life.
    pub(super) beats: String,
    /// The subject of the epoch.
    pub(super) epoch: String,
    /// The subject of what nodes tell each other in core mode.
    pub(super) plain: String,
    /// The first words of the subjects, outside the stream, by which one node is told something.
    private: String,
}

impl Names {
    pub(super) fn new(gateway: &str) -> Names {
        let id = gateway.replace('.', "~");
        Names {
            stream: format!("wsgw-{id}"),
            messages: format!("wsgw.{id}.messages"),
            beats: format!("wsgw.{id}.beats"),
            epoch: format!("wsgw.{id}.epoch"),
            plain: format!("wsgw-core.{id}"),
            private: format!("{PRIVATE}.{id}"),
        }
    }

    /// The subject by which a node is asked whether it is there; of all gateways.
    pub(super) fn of_node(node: Node) -> String {
        format!("{PRIVATE}.{node}")
    }

    /// The subject by which a node is told something that has no place in the order.
    pub(super) fn of(&self, node: Node) -> String {
        format!("{}.{node}", self.private)
    }
}
