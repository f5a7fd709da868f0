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
}
