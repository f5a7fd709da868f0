//! permessage-deflate: what a client sends compressed, and what it offers.

use wsgw::ws::deflate::compress::Compressors;
use wsgw::ws::deflate::inflate::Inflater;
use wsgw::ws::deflate::offer::{agreed, answer};

/// A bound, in two bytes, and a compressed message: never more than the bound, the same whatever
/// was inflated before, and what comes out comes back.
pub fn inflate(data: &[u8]) {
    let Some((max, body)) = data.split_first_chunk() else { return };
    let max = usize::from(u16::from_be_bytes(*max));
    let inflate = |inflater: &mut Inflater, max| {
        let result = inflater.message(body, max).map(<[u8]>::to_vec);
        result.map_err(|(code, _)| code)
    };
    let mut inflater = Inflater::default();
    let result = inflate(&mut inflater, max);
    assert_eq!(inflate(&mut inflater, max), result);
    let kept = inflate(&mut Inflater::with_takeover(), max);
    let out = match result {
        Ok(out) => out,
        Err(code) => {
            assert!(matches!(code, 1007 | 1009));
            assert!(kept.is_err() || code == 1007);
            return;
        }
    };
    assert!(out.len() <= max);
    assert_eq!(kept.as_ref(), Ok(&out));
    assert_eq!(inflate(&mut inflater, out.len()).as_ref(), Ok(&out));
    if let Some(less) = out.len().checked_sub(1) {
        assert_eq!(inflate(&mut inflater, less), Err(1009));
    }
    for bits in [9, 15] {
        if let Some(body) = Compressors::default().payload(bits, &out) {
            assert!(body.len() < out.len());
            assert_eq!(inflater.message(body, out.len()), Ok(&out[..]));
        }
    }
}

/// Lines of `Sec-WebSocket-Extensions`: a client can read what is answered.
pub fn offer(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = agreed(text.split('\n'));
    let Some(said) = answer(text.split('\n')) else { return };
    assert!((9..=15).contains(&said.window_bits()));
    assert!(agreed([said.header()]).is_ok_and(|agreed| agreed.is_some()));
}
