//! Arenas as a program's memory. This program's allocator is the library's.
#![allow(unsafe_code, reason = "an arena is lent memory, and what it holds must stay inside")]

#[cfg(feature = "gpu")]
#[path = "memory/gpu.rs"]
mod gpu;

use attar::memory::{Arena, Block, Heap, Shared, within};
use std::alloc::Layout;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[global_allocator]
static HEAP: Heap = Heap;

/// A region whose start is aligned to 64.
struct Region(*mut u8, Layout);

impl Region {
    fn new(size: usize) -> Self {
        let layout = Layout::from_size_align(size, 64).expect("a size");
        // SAFETY: the size is not zero.
        Self(unsafe { std::alloc::alloc(layout) }, layout)
    }

    fn arena(&mut self) -> Arena {
        // SAFETY: the region is used by one arena at a time.
        unsafe { Arena::new(self.0, self.1.size()) }
    }

    #[cfg(feature = "gpu")]
    fn address(&mut self) -> *mut u8 {
        self.0
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout.
        unsafe { std::alloc::dealloc(self.0, self.1) }
    }
}

/// What `f` returns holds nothing of the arena.
fn inside<T: Copy>(arena: &Arena, f: impl FnOnce() -> T) -> T {
    // SAFETY: plain data leaves, and every test drops inside what it made inside.
    unsafe { within(arena, f) }
}

fn reserve<T>(values: &mut Vec<T>, len: usize) -> bool {
    values.try_reserve_exact(len).is_ok()
}

#[test]
fn the_last_piece_grows_and_goes_and_others_leave_gaps() {
    let mut region = Region::new(4096);
    let arena = region.arena();
    inside(&arena, || {
        let mut first = Vec::<u8>::new();
        assert!(reserve(&mut first, 100));
        assert_eq!(arena.used(), 112, "rounded up to 16");
        let place = first.as_ptr();
        assert!(reserve(&mut first, 200));
        assert_eq!((arena.used(), first.as_ptr()), (208, place), "grows where it lies");
        let mut second = Vec::<u64>::new();
        assert!(reserve(&mut second, 1));
        assert_eq!(arena.used(), 224);
        first.resize(200, 7);
        assert!(reserve(&mut first, 300));
        assert_ne!(first.as_ptr(), place, "not the last piece any more");
        assert!(first.iter().all(|value| *value == 7));
        assert_eq!(arena.used(), 224 + 512);
        drop(second);
        assert_eq!(arena.used(), 224 + 512, "a gap");
        drop(first);
        assert_eq!(arena.used(), 224);
    });
    assert_eq!(arena.peak(), 224 + 512);
}

#[test]
fn a_full_arena_refuses_and_goes_on() {
    let mut region = Region::new(256);
    let arena = region.arena();
    inside(&arena, || {
        let mut values = Vec::<u8>::new();
        assert!(!reserve(&mut values, 257));
        assert!(reserve(&mut values, 240));
        assert!(Shared::new([0u8; 17]).is_err());
        assert!(Shared::new(7u8).is_ok_and(|value| *value == 7));
        assert!(reserve(&mut values, 256), "all of it");
        assert!(Block::claim(1, 0u8).is_err());
    });
    assert_eq!((arena.used(), arena.peak()), (0, 256));
    assert!(Block::claim(1, 0u8).is_ok(), "outside there is more");
}

#[test]
fn a_region_may_start_anywhere() {
    let region = Region::new(256);
    for lost in 1..64 {
        // SAFETY: inside the region, which one arena at a time uses.
        let arena = unsafe { Arena::new(region.0.wrapping_add(lost), 256 - lost) };
        inside(&arena, || {
            assert!(Block::claim(193, 0u8).is_err());
            assert!(
                Block::claim(192, 0u8)
                    .is_ok_and(|block| (block.as_ptr() as usize).is_multiple_of(64))
            );
        });
    }
}

/// Steps of every kind; a block is the same steps for an arena that measures.
fn steps() -> attar::Result<()> {
    let first = Shared::new([1u8; 40])?;
    let mut list = Vec::<u16>::new();
    let mut blocks = [Block::default(), Block::default(), Block::default()];
    for (i, block) in blocks.iter_mut().enumerate() {
        let grown = list.try_reserve_exact(100 * i + 1);
        grown.map_err(|e| attar::Error::Invalid(e.to_string().into()))?;
        list.push(7);
        *block = Block::claim(1000 * i + 5, 0f32)?;
        let short = Shared::new(3u64)?;
        drop(short);
    }
    assert!(list.try_reserve_exact(50).is_ok());
    black_box((first, list, blocks));
    Ok(())
}

#[test]
fn what_is_measured_is_what_is_taken() {
    let mut region = Region::new(1 << 16);
    let real = region.arena();
    inside(&real, || assert!(steps().is_ok()));
    let small = Region::new(2048);
    // SAFETY: the region is the arena's.
    let measuring = unsafe { Arena::measuring(small.0, 2048) };
    inside(&measuring, || assert!(steps().is_ok()));
    assert_eq!(measuring.peak(), real.peak());
    assert!(real.peak() > 8192, "more than the measuring arena had");
    // SAFETY: the first arena is not used any more.
    let exact = unsafe { Arena::new(region.0, real.peak()) };
    inside(&exact, || assert!(steps().is_ok()));
    // SAFETY: as above.
    let short = unsafe { Arena::new(region.0, real.peak() - 1) };
    inside(&short, || assert!(steps().is_err()));
}

#[test]
fn arenas_nest_and_keep_to_their_threads() {
    let (mut outer, mut inner) = (Region::new(1024), Region::new(1024));
    let (outer, inner) = (outer.arena(), inner.arena());
    inside(&outer, || {
        let mut first = vec![1u8; 16];
        inside(&inner, || {
            let second = vec![2u8; 16];
            assert_eq!((outer.used(), inner.used()), (16, 16));
            first.reserve_exact(16); // grows where it belongs
            assert_eq!((outer.used(), inner.used()), (32, 16));
            drop(second);
        });
        assert_eq!(inner.used(), 0);
    });
    assert_eq!(outer.used(), 0);
    let used = std::thread::spawn(|| {
        let mut region = Region::new(64);
        let arena = region.arena();
        inside(&arena, || drop(black_box(vec![0u8; 64])));
        arena.peak()
    });
    assert_eq!(used.join().expect("no panic"), 64);
}

#[test]
fn a_panic_leaves_a_full_arena() {
    let mut region = Region::new(64);
    let arena = region.arena();
    let caught = catch_unwind(AssertUnwindSafe(|| {
        inside(&arena, || {
            let _full = black_box(vec![0u8; 64]);
            panic!("on purpose");
        })
    }));
    let payload = caught.expect_err("the panic");
    assert_eq!(payload.downcast_ref(), Some(&"on purpose"));
    drop(payload);
    let list = black_box(vec![0u8; 64]);
    assert_eq!(arena.used(), 0, "the vector outside came from the system: {}", list.len());
}
