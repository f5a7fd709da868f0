//! The fuzz targets' seeds, run through them: what `fuzz/run.sh` runs for hours under libFuzzer
//! holds for these at least. The model of the exchange gets random stories beside them.

use std::path::Path;

use proptest::prelude::*;

#[path = "../fuzz/src/lib.rs"]
mod targets;

#[test]
fn every_seed_holds() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, target) in targets::TARGETS {
        target(b"");
        let files = std::fs::read_dir(seeds.join(name)).expect("a target without seeds");
        let mut count = 0;
        for file in files {
            let path = file.expect("a seed").path();
            println!("{}", path.display());
            target(&std::fs::read(&path).expect("a seed"));
            count += 1;
        }
        assert!(count > 0, "{name} has no seeds");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Per connection open, messages, one close; nothing lost, nothing twice, whatever happens when.
    #[test]
    fn the_exchange_keeps_the_listener_protocol(story in prop::collection::vec(any::<u8>(), 0..600)) {
        targets::run("exchange", &story);
    }

    /// Who is given a stream, and what its answer tells browsers.
    #[test]
    fn requests_for_streams_keep_the_rules(
        bits: u8,
        form in proptest::sample::select(vec!["", "stream=sse", "stream=lines", "stream=raw", "stream=x"]),
        more in "(&pad=[0-9]{1,5})?(&since=([0-9]{1,3}m?|last|[a-z]{8}-[0-9]{1,3}))?",
        lines in prop::collection::vec(proptest::sample::select(vec![
            "Accept: text/event-stream", "Accept: image/png, */*", "Accept: */*",
            "Origin: http://localhost:3000", "Origin: https://x.a.example", "Origin: null",
            "Origin: https://a.example", "Origin: https://evil.example", "Origin: x y",
            "Referer: http://localhost/page", "Referer: https://evil.example/", "Referer: about:blank",
            "Referer: https:\\\\evil.example", "Referer: //localhost/", "Referer: https://x.a.example:443",
            "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: none",
            "Last-Event-ID: abcdefgh-7", "Last-Event-ID: x", "Last-Event-ID:", "If-None-Match: *",
        ]), 0..6),
    ) {
        let text = format!("?{form}{more}\n{}", lines.join("\n"));
        targets::run("stream", &[&[bits], text.as_bytes()].concat());
    }
}
