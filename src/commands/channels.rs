//! `wsgw channels`.

use std::time::Duration;

use serde_json::value::RawValue;

use crate::api::{ChannelInfo, ChannelSummary};
use crate::cli::ChannelsArgs;
use crate::commands::control;
use crate::commands::control::{channel, read, segment};
use crate::commands::lists::{Listing, Lists, Pages};
use crate::commands::output::{print, print_json, table};
use crate::error::{Failure, exit};
use crate::text::escape::escape;

/// Channels that are fetched at a time, for the gateway does nothing else with them meanwhile.
const PAGE: usize = 10_000;

/// A limit above any number of members: all of them in one answer.
const ALL: u32 = u32::MAX;

/// `wsgw channels [ID] [CHANNEL]`. Those of all gateways have a key `gateway` each.
pub(super) fn run(args: &ChannelsArgs) -> Result<u8, Failure> {
    if let (Some(id), Some(name)) = (&args.id, &args.channel) {
        return one(args, id, channel(name)?);
    }
    let mut client = control::open(&args.control, Duration::ZERO)?;
    let path = if args.local { "channels?local=true" } else { "channels" };
    let listing = Listing { path, pages: Some(Pages { size: PAGE, name }) };
    let lists =
        Lists::fetch(&mut client, args.id.as_deref(), &listing).map_err(|mut failure| {
            if failure.exit == exit::NO_GATEWAY {
                failure.message.push_str("; `wsgw channels ID CHANNEL` shows a channel");
            }
            failure
        })?;
    if args.json {
        lists.print_json()?;
        return Ok(exit::OK);
    }
    let found: Vec<(&str, ChannelSummary)> = lists.items()?;
    let row = |(id, summary): &(&str, ChannelSummary)| {
        let name = escape(&summary.channel).into_owned();
        vec![(*id).to_owned(), name, summary.members.to_string()]
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    if rows.is_empty() {
        print("no channels\n")?;
    } else {
        print(&table(&["GATEWAY", "CHANNEL", ">MEMBERS"], &rows))?;
    }
    Ok(exit::OK)
}

fn name(item: &RawValue) -> Result<String, Failure> {
    Ok(read::<ChannelSummary>(item.get().as_bytes())?.channel)
}

fn one(args: &ChannelsArgs, id: &str, name: &str) -> Result<u8, Failure> {
    let mut client = control::open(&args.control, Duration::ZERO)?;
    let path = format!(
        "/v1/gateways/{}/channels/{}?limit={ALL}&local={}",
        segment(id),
        segment(name),
        args.local
    );
    let body = client.call("GET", &path, None)?;
    if args.json {
        print_json(&body)?;
    } else {
        print(&text(&read(&body)?))?;
    }
    Ok(exit::OK)
}

/// The channel in lines, a member each.
fn text(info: &ChannelInfo) -> String {
    let mut out = format!("channel: {}\n", escape(&info.channel));
    if let Some(history) = &info.history {
        out.push_str(&format!("history: {} messages, {} bytes", history.messages, history.bytes));
        if let Some(oldest) = &history.oldest_at {
            out.push_str(&format!(", the oldest from {}", escape(oldest)));
        }
        out.push_str(&format!("\nposition: {}\n", escape(&history.at)));
    }
    out.push_str(&format!("members: {}\n", info.count));
    for member in &info.members {
        out.push_str(&format!("  {}\n", escape(member)));
    }
    out
}
