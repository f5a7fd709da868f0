#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wsgw_fuzz::run("bench_frames", data));
