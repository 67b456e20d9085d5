//! The library with graphics devices. Where there is none, the program says so and is content.

use crate::common::{own, shared};
use crate::{Linked, compile, release, succeed};
use std::path::Path;
use std::process::Command;

#[test]
fn a_device_says_what_the_cpu_says_and_takes_what_was_planned() {
    // The other library first: both are built in one place.
    if release().is_none() {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("attar-c-gpu");
    println!("{}", succeed(Command::new(own("scripts/dist")).arg("--gpu").arg(&folder)));
    let models = [Some(own("models/attar-1m.gguf")), shared("models/stories3M-f32.gguf")];
    for linked in [Linked::Static, Linked::Shared] {
        let program = compile(&folder, "gcc", "tests/c/gpu.c", linked, &[]);
        for model in models.iter().flatten() {
            println!("{linked:?} {}", succeed(Command::new(&program).arg(model)));
        }
    }
}
