//! What one gateway lists, or each of them: for `wsgw connections` and `wsgw channels`.

use serde_json::Value;

use crate::api::GatewayStatus;
use crate::commands::control::read;
use crate::commands::output;
use crate::control_client::Client;
use crate::error::Failure;

/// The lists that were fetched.
pub(super) struct Lists {
    /// Each gateway's id, and its list as the control port sent it.
    pub(super) of: Vec<(String, Vec<u8>)>,
    /// Whether one gateway was asked for.
    one: bool,
}

impl Lists {
    /// Fetches the list of the gateway `id`, or of all of them. `path` makes a gateway's path.
    pub(super) fn fetch(
        client: &mut Client,
        id: Option<&str>,
        path: impl Fn(&str) -> String,
    ) -> Result<Lists, Failure> {
        if let Some(id) = id {
            let body = client.call("GET", &path(id), None)?;
            return Ok(Lists { of: vec![(id.to_owned(), body)], one: true });
        }
        let mut of = Vec::new();
        let gateways = client.call("GET", "/v1/gateways", None)?;
        for gateway in read::<Vec<GatewayStatus>>(&gateways)? {
            let answer = client.request("GET", &path(&gateway.id), None)?;
            match answer.status {
                200 => of.push((gateway.id, answer.body)),
                // Removed or stopped in the meantime: it has none.
                404 | 409 | 503 => {}
                status => return Err(client.refused(status, &answer.body)),
            }
        }
        Ok(Lists { of, one: false })
    }

    /// Prints one list as it was sent; several as one list, where each item has a key `gateway`.
    pub(super) fn print_json(&self) -> Result<(), Failure> {
        match self.of.as_slice() {
            [(_, body)] if self.one => output::print_json(body),
            lists => output::print_json(with_gateways(lists)?.to_string().as_bytes()),
        }
    }
}

/// The lists as one, each item with its gateway and with all that the server said of it.
fn with_gateways(lists: &[(String, Vec<u8>)]) -> Result<Value, Failure> {
    let mut all = Vec::new();
    for (gateway, body) in lists {
        for mut item in read::<Vec<Value>>(body)? {
            if let Some(members) = item.as_object_mut() {
                members.insert("gateway".to_owned(), Value::from(gateway.as_str()));
            }
            all.push(item);
        }
    }
    Ok(Value::from(all))
}
