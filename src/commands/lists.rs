//! What one gateway lists, or each of them: for `wsgw connections` and `wsgw channels`.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::api::GatewayStatus;
use crate::commands::control::{read, segment};
use crate::commands::output;
use crate::control_client::Client;
use crate::error::{Failure, complain};
use crate::text::escape;

/// What a gateway lists, item by item as the control port sent it.
type List = Vec<Box<RawValue>>;

/// Which list is fetched.
pub(super) struct Listing<'a> {
    /// The path below that of the gateway, with its query.
    pub(super) path: &'a str,
    /// A list that may be very long is fetched in pages.
    pub(super) pages: Option<Pages>,
}

/// How a list is divided into pages.
pub(super) struct Pages {
    /// The items of one page.
    pub(super) size: usize,
    /// The name of an item, behind which the next page goes on.
    pub(super) name: fn(&RawValue) -> Result<String, Failure>,
}

/// The lists that were fetched.
pub(super) struct Lists {
    /// Each gateway's id, and its list.
    of: Vec<(String, List)>,
    /// Whether one gateway was asked for.
    one: bool,
}

impl Lists {
    /// Fetches the list of the gateway `id`, or of all of them.
    pub(super) fn fetch(
        client: &mut Client,
        id: Option<&str>,
        listing: &Listing<'_>,
    ) -> Result<Lists, Failure> {
        if let Some(id) = id {
            let mut list = List::new();
            return match listing.fetch(client, id, &mut list)? {
                Ok(()) => Ok(Lists { of: vec![(id.to_owned(), list)], one: true }),
                Err((_, failure)) => Err(failure),
            };
        }
        let mut of = Vec::new();
        let gateways = client.call("GET", "/v1/gateways", None)?;
        for gateway in read::<Vec<GatewayStatus>>(&gateways)? {
            let mut list = List::new();
            match listing.fetch(client, &gateway.id, &mut list)? {
                // Removed or stopped in the meantime: it has no more.
                Ok(()) | Err((404 | 409 | 503, _)) => of.push((gateway.id, list)),
                Err((_, failure)) => return Err(failure),
            }
        }
        Ok(Lists { of, one: false })
    }

    /// Each item, with its gateway's id.
    pub(super) fn items<'a, T: Deserialize<'a>>(&'a self) -> Result<Vec<(&'a str, T)>, Failure> {
        let all = self.of.iter().flat_map(|(id, list)| list.iter().map(move |item| (id, item)));
        all.map(|(id, item)| Ok((id.as_str(), read(item.get().as_bytes())?))).collect()
    }

    /// Prints one list as it was sent; several as one list, where each item has a key `gateway`.
    pub(super) fn print_json(&self) -> Result<(), Failure> {
        if self.one {
            let items: Vec<&str> = self.of.iter().flat_map(|(_, l)| l).map(|i| i.get()).collect();
            return output::print_json(format!("[{}]", items.join(",")).as_bytes());
        }
        let with_gateway = |(id, mut item): (&str, Value)| {
            if let Some(members) = item.as_object_mut() {
                members.insert("gateway".to_owned(), Value::from(id));
            }
            item
        };
        let all: Vec<Value> = self.items()?.into_iter().map(with_gateway).collect();
        output::print_json(Value::from(all).to_string().as_bytes())
    }
}

impl Listing<'_> {
    /// Appends one gateway's list. The inner error is a refusal with its HTTP status.
    fn fetch(
        &self,
        client: &mut Client,
        id: &str,
        list: &mut List,
    ) -> Result<Result<(), (u16, Failure)>, Failure> {
        let path = format!("/v1/gateways/{}/{}", segment(id), self.path);
        let mut after = String::new();
        loop {
            let mut page_path = path.clone();
            if let Some(pages) = &self.pages {
                let sign = if page_path.contains('?') { '&' } else { '?' };
                let size = pages.size;
                page_path.push_str(&format!("{sign}limit={size}&after={}", segment(&after)));
            }
            let answer = client.request("GET", &page_path, None)?;
            if answer.status != 200 {
                return Ok(Err((answer.status, client.refused(answer.status, &answer.body))));
            }
            if let Some(notice) = &answer.notice {
                complain(&format!("wsgw: {}", escape::lines(notice)));
            }
            let mut page: List = read(&answer.body)?;
            match (&self.pages, page.last()) {
                (Some(pages), Some(last)) if page.len() >= pages.size => {
                    after = (pages.name)(last)?;
                }
                _ => {
                    list.append(&mut page);
                    return Ok(Ok(()));
                }
            }
            list.append(&mut page);
        }
    }
}
