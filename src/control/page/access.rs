//! Who may see the operators' page: codes, each good once and for a minute, and the sessions that
//! they become.
//!
//! Both live in the memory of this `serve`, behind one lock that is held for a look: a restart
//! forgets them. The caller brings the time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use subtle::ConstantTimeEq;

use crate::control::secret::random_hex;

/// How long a code is good.
pub(super) const CODE_TIME: Duration = Duration::from_secs(60);
/// Codes that may be outstanding; one more replaces the oldest.
const MAX_CODES: usize = 32;
/// How long a session lasts.
const SESSION_TIME: Duration = Duration::from_secs(12 * 60 * 60);
/// Sessions at a time; one more replaces the oldest.
const MAX_SESSIONS: usize = 64;

/// The codes and sessions of one control port.
#[derive(Default)]
pub(super) struct Access(Mutex<State>);

#[derive(Default)]
struct State {
    codes: VecDeque<Secret>,
    sessions: VecDeque<Secret>,
    /// Sessions that there were so far.
    count: u64,
}

struct Secret {
    text: String,
    made: Instant,
    /// The number of a session.
    number: u64,
}

/// Drops the secrets that are too old, and those for which there is no room for one more.
fn make_room(secrets: &mut VecDeque<Secret>, time: Duration, most: usize, now: Instant) {
    secrets.retain(|secret| now.duration_since(secret.made) < time);
    while secrets.len() >= most {
        secrets.pop_front();
    }
}

/// Where a secret is. All are compared, each in a time that does not depend on what it is.
fn find(secrets: &VecDeque<Secret>, text: &str, time: Duration, now: Instant) -> Option<usize> {
    let mut found = None;
    for (at, secret) in secrets.iter().enumerate() {
        let same = bool::from(secret.text.as_bytes().ct_eq(text.as_bytes()));
        if same && now.duration_since(secret.made) < time {
            found = Some(at);
        }
    }
    found
}

impl Access {
    /// Makes a code.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(super) fn issue(&self, now: Instant) -> Result<String, String> {
        let text = random_hex::<16>()?;
        let mut state = self.0.lock();
        make_room(&mut state.codes, CODE_TIME, MAX_CODES, now);
        state.codes.push_back(Secret { text: text.clone(), made: now, number: 0 });
        Ok(text)
    }

    /// Whether a code is good; it stays so.
    pub(super) fn knows_code(&self, code: &str, now: Instant) -> bool {
        find(&self.0.lock().codes, code, CODE_TIME, now).is_some()
    }

    /// Uses a code up. Returns the session that it becomes, and its number; `None` for a code that
    /// is not good.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(super) fn redeem(&self, code: &str, now: Instant) -> Result<Option<(String, u64)>, String> {
        let text = random_hex::<32>()?;
        let mut state = self.0.lock();
        let Some(at) = find(&state.codes, code, CODE_TIME, now) else { return Ok(None) };
        state.codes.remove(at);
        make_room(&mut state.sessions, SESSION_TIME, MAX_SESSIONS, now);
        state.count += 1;
        let number = state.count;
        state.sessions.push_back(Secret { text: text.clone(), made: now, number });
        Ok(Some((text, number)))
    }

    /// The number of a session that has not ended, and when it ends.
    pub(super) fn session(&self, text: &str, now: Instant) -> Option<(u64, Instant)> {
        let state = self.0.lock();
        let at = find(&state.sessions, text, SESSION_TIME, now)?;
        let session = &state.sessions[at];
        Some((session.number, session.made + SESSION_TIME))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_good_once_and_for_a_minute() {
        let (access, start) = (Access::default(), Instant::now());
        let code = access.issue(start).unwrap();
        assert_eq!(code.len(), 32, "128 bits");
        let (session, number) =
            access.redeem(&code, start + Duration::from_secs(59)).unwrap().unwrap();
        assert_eq!((session.len(), number), (64, 1));
        assert_eq!(access.redeem(&code, start).unwrap(), None, "it was used");

        let late = access.issue(start).unwrap();
        assert!(access.knows_code(&late, start + Duration::from_secs(59)));
        assert!(!access.knows_code(&late, start + CODE_TIME));
        assert_eq!(access.redeem(&late, start + CODE_TIME).unwrap(), None);
        for wrong in ["", "0", &"0".repeat(32), &late[..31]] {
            assert!(!access.knows_code(wrong, start), "{wrong}");
        }
    }

    #[test]
    fn a_session_lasts_twelve_hours() {
        let (access, start) = (Access::default(), Instant::now());
        let (session, _) = access.redeem(&access.issue(start).unwrap(), start).unwrap().unwrap();
        assert_eq!(
            access.session(&session, start + SESSION_TIME - Duration::from_secs(1)),
            Some((1, start + SESSION_TIME))
        );
        assert_eq!(access.session(&session, start + SESSION_TIME), None);
        assert_eq!(access.session("", start), None);
        assert_eq!(Access::default().session(&session, start), None, "another serve's");
    }

    #[test]
    fn the_oldest_make_room() {
        let (access, now) = (Access::default(), Instant::now());
        let codes: Vec<_> = (0..=MAX_CODES).map(|_| access.issue(now).unwrap()).collect();
        assert!(!access.knows_code(&codes[0], now) && access.knows_code(&codes[1], now));
        let open = |_| access.redeem(&access.issue(now).unwrap(), now).unwrap().unwrap().0;
        let sessions: Vec<_> = (0..=MAX_SESSIONS).map(open).collect();
        assert_eq!(access.session(&sessions[0], now), None);
        assert_eq!(access.session(&sessions[1], now), Some((2, now + SESSION_TIME)));
    }
}
