use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tokio::sync::oneshot;

use super::*;
use crate::config::settings::Route;
use crate::listener::connection::ConnInfo;
use crate::listener::op::Op;
use crate::listener::protocol::push::Push;

type Names = Option<Vec<&'static str>>;

/// What a line names as recipients.
#[derive(Debug, Clone)]
enum Named {
    Nobody,
    Connections(Vec<&'static str>),
    Channels(Vec<&'static str>),
}

/// Names of connections, and names that no connection can have.
fn names() -> impl Strategy<Value = Vec<&'static str>> {
    let name = prop::sample::select(vec!["k1", "k2", "k3", "k4", "k5", "K1", "k01", "x"]);
    prop::collection::vec(name, 0..5)
}

fn channels() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "empty"]), 0..4)
}

fn named() -> impl Strategy<Value = Named> {
    prop_oneof![
        Just(Named::Nobody),
        names().prop_map(Named::Connections),
        channels().prop_map(Named::Channels),
    ]
}

fn member(key: &str, names: &Names) -> String {
    names.as_ref().map(|names| format!(",\"{key}\":{names:?}")).unwrap_or_default()
}

fn members(named: &Named, except: &Names) -> String {
    let target = match named {
        Named::Nobody => String::new(),
        Named::Connections(names) => member("connections", &Some(names.clone())),
        Named::Channels(names) => member("channel", &Some(names.clone())),
    };
    target + &member("except", except)
}

/// The channels of each connection.
type Rooms = Vec<BTreeSet<&'static str>>;

/// The rules of the protocol, one by one.
fn by_the_protocol(
    route: Route,
    sender: Option<u64>,
    named: &Named,
    except: &Names,
    rooms: &Rooms,
) -> BTreeSet<u64> {
    let rooms = |id: u64| &rooms[id as usize - 1];
    let but = |id: &u64| !except.as_ref().is_some_and(|list| list.contains(&&*format!("k{id}")));
    let chosen = |id: &u64| match (named, route, sender) {
        (Named::Connections(names), ..) => names.contains(&&*format!("k{id}")),
        (Named::Channels(names), ..) => names.iter().any(|name| rooms(*id).contains(name)),
        (Named::Nobody, _, None) | (Named::Nobody, Route::All, _) => true,
        (Named::Nobody, Route::Others, Some(sender)) => *id != sender,
        (Named::Nobody, Route::Sender, Some(sender)) => *id == sender,
        (Named::Nobody, Route::Channels, Some(sender)) => !rooms(sender).is_disjoint(rooms(*id)),
        (Named::Nobody, Route::None, Some(_)) => false,
    };
    (1..=5).filter(|id| chosen(id) && but(id)).collect()
}

fn set(names: impl IntoIterator<Item = &'static str>) -> ChannelSet {
    ChannelSet::new(names.into_iter().map(|name| Channel::parse(name).unwrap()).collect())
}

fn exchange(route: &str, rooms: &Rooms, now: Instant) -> Exchange {
    let text = format!("[gateways.g]\nroute = \"{route}\"");
    let file = crate::config::from_text(Path::new("/wsgw.toml"), &text);
    let settings = file.unwrap().gateways.remove(0);
    let mut exchange = Exchange::new("g".into(), Arc::new(settings), Arc::default(), 1, now);
    exchange.attach(now);
    for (id, rooms) in (1..).zip(rooms) {
        exchange.opened(
            Arc::new(ConnInfo {
                id: ConnId(id),
                opened_at: std::time::SystemTime::UNIX_EPOCH,
                remote: "".into(),
                members: (*b"\"path\":\"/\"").into(),
                path_len: 3,
            }),
            set(rooms.iter().copied()).as_slice(),
        );
    }
    exchange
}

/// Those of the five connections that a delivery reaches.
fn reached(to: Recipients, rooms: &Rooms) -> BTreeSet<u64> {
    let all = 1..=5;
    match to {
        Recipients::All => all.collect(),
        Recipients::AllBut(but) => all.filter(|id| !but.contains(&ConnId(*id))).collect(),
        Recipients::Only(ids) => ids.iter().map(|id| id.0).filter(|id| all.contains(id)).collect(),
        Recipients::Members(target) => all
            .filter(|id| {
                let is_in = |channel: &Channel| rooms[*id as usize - 1].contains(channel.as_str());
                target.channels.iter().any(is_in) && !target.except.contains(&ConnId(*id))
            })
            .collect(),
    }
}

/// Carries out the effects of one line. Returns the recipients of its delivery.
fn carried_out(exchange: &mut Exchange, rooms: &mut Rooms) -> Recipients {
    let mut to = None;
    for effect in exchange.effects.drain(..) {
        match effect {
            Effect::Op(Op::Membership(change)) => {
                assert!(to.is_none(), "the delivery comes behind it");
                let room = &mut rooms[change.conn.0 as usize - 1];
                for channel in &change.leave {
                    assert!(room.remove(channel.as_str()), "it was in the channel");
                }
                for channel in &change.join {
                    let name =
                        ["a", "b", "c", "empty"].into_iter().find(|n| *n == channel.as_str());
                    assert!(room.insert(name.unwrap()), "it was not in the channel");
                }
                assert!(change.leave.len() + change.join.len() > 0);
            }
            Effect::Op(Op::Deliver(delivery)) => to = Some(delivery.to),
            _ => {}
        }
    }
    to.unwrap()
}

proptest! {
    /// For every route, and whatever the answer and the push name: exactly the recipients that the
    /// protocol names get the message, each once, after the sender has left and joined; and every
    /// listed name that is not the name of a connection is counted.
    #[test]
    fn recipients_are_those_that_the_protocol_names(
        route in prop::sample::select(vec!["all", "others", "sender", "channels", "none"]),
        sender in prop::option::of(1u64..=5),
        (own, own_except) in (named(), prop::option::of(names())),
        (named, except) in (named(), prop::option::of(names())),
        (leave, join) in (prop::option::of(channels()), prop::option::of(channels())),
        rooms in prop::collection::vec(
            prop::collection::btree_set(prop::sample::select(vec!["a", "b", "c"]), 0..3),
            5,
        ),
    ) {
        let now = Instant::now();
        let mut rooms = rooms;
        let mut exchange = exchange(route, &rooms, now);
        let (reply, _outcome) = oneshot::channel();
        let mut change = String::new();
        let (own, own_except) = match sender {
            Some(sender) => {
                exchange.message(ConnId(sender), Payload::text("hi"));
                change = member("leave", &leave) + &member("join", &join);
                (Named::Nobody, None)
            }
            None => {
                let json = format!("{{\"message\":\"hi\"{}}}", members(&own, &own_except));
                let push = Push::parse(json.as_bytes()).unwrap();
                exchange.push(PushAsk { push, reply, ticket: Box::new(()) }, now);
                (own, own_except)
            }
        };
        exchange.pump(now);
        exchange.written(exchange.unwritten().len(), now);
        // The five opens have the ids before it.
        let answer = format!("{{\"id\":6{change}{}}}", members(&named, &except));
        let results: Arc<dyn Fn(String) + Send + Sync> = Arc::new(|_| {});
        exchange.line(answer.as_bytes(), &results, now);

        let to = carried_out(&mut exchange, &mut rooms);
        if let Some(sender) = sender {
            let now_in = &rooms[sender as usize - 1];
            prop_assert!(join.iter().flatten().all(|name| now_in.contains(name)));
            let leaves = |name: &&&str| !join.iter().flatten().any(|joined| joined == *name);
            prop_assert!(leave.iter().flatten().filter(leaves).all(|name| !now_in.contains(name)));
        }
        let named = if matches!(named, Named::Nobody) { own } else { named };
        let except = except.or(own_except);
        let route = exchange.settings.route;
        let expected = by_the_protocol(route, sender, &named, &except, &rooms);
        prop_assert_eq!(reached(to, &rooms), expected);

        let connections = match &named {
            Named::Connections(names) => names.clone(),
            Named::Nobody | Named::Channels(_) => Vec::new(),
        };
        let nobody: BTreeSet<&str> = connections
            .into_iter()
            .filter(|name| ConnId::parse(name).is_none())
            .filter(|name| !except.iter().flatten().any(|but| but == name))
            .collect();
        prop_assert_eq!(exchange.metrics.gone.get(), nobody.len() as u64);
    }
}
