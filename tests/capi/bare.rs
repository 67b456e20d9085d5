//! The library without an operating system: what it asks for, and what becomes of a defect.

use crate::common::own;
use crate::{Linked, WARNINGS, compile, models, release, succeed, symbols};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library for bare metal, built for this machine so that it can be run here.
fn bare() -> Option<PathBuf> {
    release()?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bare");
    let mut build = Command::new(env!("CARGO"));
    build.current_dir(own("")).args(["rustc", "--package", "attar-c", "--no-default-features"]);
    build.args(["--crate-type", "staticlib", "--profile", "dist", "--quiet"]);
    build.args(["--config", "profile.dist.panic='abort'", "--target-dir"]).arg(&folder);
    succeed(&mut build);
    Some(folder.join("dist/libattar_c.a"))
}

#[test]
fn without_an_operating_system_the_same_tokens_come() {
    let (Some(release), Some(library)) = (release(), bare()) else { return };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (program, object) = (folder.join("bare-metal"), folder.join("bare-metal.o"));
    let source = own("tests/c/bare.c");
    let mut link = Command::new("gcc");
    link.args(WARNINGS).args(["-std=c99", "-O1", "-g", "-I"]).arg(own("include"));
    succeed(link.arg("-o").arg(&program).arg(source).arg(&library).arg("-Wl,--gc-sections"));
    let bare = succeed(Command::new(&program).args(models()));
    let program = compile(release, "gcc", "tests/c/bare.c", Linked::Static, &[]);
    let hosted = succeed(Command::new(program).args(models()));
    assert!(bare == hosted && bare.split_whitespace().count() == 32, "{bare}{hosted}");
    // It asks the program for nothing but what every C compiler brings.
    let mut join = Command::new("ld");
    join.args(["-r", "--gc-sections", "-o"]).arg(&object);
    for name in symbols(&release.join("lib/libattar.a"), &[]) {
        join.arg(format!("--undefined={name}"));
    }
    succeed(join.arg(&library));
    // Some tools try to read the compiler's own notes, of a version they do not know.
    succeed(Command::new("objcopy").args(["-R", ".llvmbc", "-R", ".llvmcmd"]).arg(&object));
    let wanted = succeed(Command::new("nm").arg("-u").arg(&object));
    let compilers = ["memcpy", "memmove", "memset", "memcmp", "bcmp", "strlen"];
    for name in wanted.split_whitespace().filter(|name| *name != "U") {
        assert!(compilers.contains(&name), "wants {name}");
    }
}

#[test]
fn without_an_operating_system_a_defect_traps() {
    let (Some(_), Some(library)) = (release(), bare()) else { return };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, program) = (folder.join("defect.c"), folder.join("defect"));
    // Nothing the header has leads to a defect: what a wrong index calls is made callable.
    let copy = folder.join("libdefect.a");
    let all = succeed(Command::new("nm").arg(&library));
    let place = all.split_whitespace().find(|name| name.ends_with("panic_bounds_check"));
    let place = place.expect("what a wrong index calls");
    let mut objcopy = Command::new("objcopy");
    objcopy.args(["-R", ".llvmbc", "-R", ".llvmcmd", &format!("--globalize-symbol={place}")]);
    succeed(objcopy.args([&library, &copy]));
    let text = format!(
        "#include <stddef.h>\nvoid {place}(size_t, size_t, void *);\n\
         int main(void) {{ {place}(1, 0, NULL); return 0; }}\n"
    );
    std::fs::write(&source, text).expect("a folder for tests");
    let mut link = Command::new("gcc");
    succeed(link.arg("-o").arg(&program).args([source, copy]).arg("-Wl,--gc-sections"));
    let mut child = Command::new(program).spawn().expect("it was just made");
    let seconds = std::time::Instant::now();
    let status = loop {
        match child.try_wait().expect("a child") {
            Some(status) => break status,
            None if seconds.elapsed().as_secs() > 20 => {
                child.kill().expect("a child");
                panic!("it loops");
            }
            None => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
    };
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(4), "not SIGILL");
}
