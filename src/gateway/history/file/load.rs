//! A log that is read back from a history's database.

use std::collections::HashMap;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior};

use super::errors::Trouble;
use crate::gateway::history::batch::{INDEX_BITS, index_of, number_of};
use crate::gateway::history::limits::Limits;
use crate::gateway::history::log::Log;
use crate::gateway::history::restore::{Restoring, Saved};
use crate::listener::protocol::channel::Channel;
use crate::text::position::Epoch;
use crate::ws::payload::Payload;

/// Reads the log of `epoch`; `None` if the database holds another one.
pub(super) fn load(
    connection: &mut Connection,
    epoch: Epoch,
    limits: Limits,
    now: u64,
) -> Result<Option<Log>, Trouble> {
    let check: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Err(Trouble::Damaged(check));
    }
    let Some(saved) = read_state(connection, epoch)? else { return Ok(None) };
    restore_ids(connection)?;
    let mut restoring = Restoring::new(saved);
    read_messages(connection, &mut restoring)?;
    Ok(Some(restoring.finish(limits, now)))
}

fn read_state(connection: &Connection, epoch: Epoch) -> Result<Option<Saved>, Trouble> {
    let read = |row: &Row<'_>| -> rusqlite::Result<(String, i64, i64, String)> {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    };
    let state = connection
        .query_row("SELECT epoch, newest, rest, limits FROM state", [], read)
        .optional()?;
    let Some((name, newest, rest, limits)) = state else {
        return Err(Trouble::Damaged("its state is missing".into()));
    };
    // Without limits, nothing was written since the epoch began.
    if name != epoch.as_str() || limits.is_empty() {
        return Ok(None);
    }
    let limits = serde_json::from_str(&limits)
        .map_err(|error| Trouble::Damaged(format!("its limits: {error}")))?;
    let mut floors = HashMap::new();
    let mut statement = connection.prepare("SELECT channel, seq FROM evicted")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let channel = match row.get_ref(0)? {
            ValueRef::Text(b"") => None,
            value => Some(channel(value)?),
        };
        floors.insert(channel, number(row.get(1)?)?);
    }
    Ok(Some(Saved { epoch, newest: number(newest)?, limits, floors, rest: number(rest)? }))
}

/// Gives the rows their ids back. A VACUUM by another program changes them.
fn restore_ids(connection: &mut Connection) -> Result<(), Trouble> {
    let wrong = format!("SELECT count(*) FROM messages WHERE rowid >> {0} != seq", INDEX_BITS);
    let wrong: i64 = connection.query_row(&wrong, [], |row| row.get(0))?;
    if wrong == 0 {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(&format!(
        "CREATE TEMP TABLE moved AS SELECT seq, channel, at, binary, body,
             row_number() OVER (PARTITION BY seq ORDER BY rowid) - 1 AS place FROM messages;
         DELETE FROM messages;
         INSERT INTO messages(rowid, seq, channel, at, binary, body)
             SELECT seq << {0} | place, seq, channel, at, binary, body FROM moved;
         DROP TABLE moved;",
        INDEX_BITS
    ))?;
    Ok(transaction.commit()?)
}

fn read_messages(connection: &Connection, restoring: &mut Restoring) -> Result<(), Trouble> {
    let mut statement = connection
        .prepare("SELECT rowid, channel, at, binary, body FROM messages ORDER BY rowid")?;
    let mut rows = statement.query([])?;
    // The rows of one message follow each other.
    let mut message: Option<(u64, u64, Payload)> = None;
    let mut places: Vec<(u32, Option<Channel>)> = Vec::new();
    while let Some(row) = rows.next()? {
        let id = number(row.get(0)?)?;
        let channel = match row.get_ref(1)? {
            ValueRef::Null => None,
            value => Some(channel(value)?),
        };
        if message.as_ref().is_none_or(|(number, _, _)| *number != number_of(id)) {
            if let Some((number, at, payload)) = message.take() {
                restoring.message((number, at), payload, &places);
                places.clear();
            }
            message = Some((number_of(id), number(row.get(2)?)?, payload(row)?));
        }
        places.push((index_of(id), channel));
    }
    if let Some((number, at, payload)) = message {
        restoring.message((number, at), payload, &places);
    }
    Ok(())
}

fn payload(row: &Row<'_>) -> Result<Payload, Trouble> {
    let binary: bool = row.get(3)?;
    let damaged = || Trouble::Damaged("a body is not what it says".into());
    match (binary, row.get_ref(4)?) {
        (true, ValueRef::Blob(bytes)) => Ok(Payload::binary(bytes)),
        (false, ValueRef::Text(bytes)) => {
            std::str::from_utf8(bytes).map(Payload::text).map_err(|_| damaged())
        }
        _ => Err(damaged()),
    }
}

fn channel(value: ValueRef<'_>) -> Result<Channel, Trouble> {
    let name = value.as_str().ok().and_then(Channel::parse);
    name.ok_or_else(|| Trouble::Damaged("a channel has an invalid name".into()))
}

fn number(number: i64) -> Result<u64, Trouble> {
    u64::try_from(number).map_err(|_| Trouble::Damaged("a number is negative".into()))
}
