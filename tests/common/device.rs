//! A device that is watched and can be made to err.

use attar::backend::{
    Backend, Cache, CacheShape, NormShape, Rotary, RotaryShape, RouteShape, Routing, Row, View,
    Weight,
};
use attar::gguf::Tensor;
use attar::{Error, Options, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a device has done.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) swiglus: AtomicUsize,
    pub(crate) reads: AtomicUsize,
}

impl Counts {
    /// Both counts, which start again.
    pub(crate) fn take(&self) -> (usize, usize) {
        (self.swiglus.swap(0, Ordering::Relaxed), self.reads.swap(0, Ordering::Relaxed))
    }
}

/// Another device, watched.
pub(crate) struct Watched {
    inner: Box<dyn Backend>,
    pub(crate) counts: Arc<Counts>,
    /// The call of `swiglu` whose result is spoiled, from 1.
    pub(crate) spoiled: usize,
    /// The call of `read` that fails, from 1.
    pub(crate) failing: usize,
    /// The layer whose keys and values it does not take.
    pub(crate) refused: Option<usize>,
    layer: usize,
}

impl Watched {
    /// The CPU of these options, so far without fault.
    pub(crate) fn cpu(options: &Options) -> Self {
        let inner = options.cpu().expect("a CPU");
        Self { inner, counts: Arc::default(), spoiled: 0, failing: 0, refused: None, layer: 0 }
    }
}

macro_rules! forward {
    ($($name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*) => { $(
        fn $name(&mut self, $($arg: $type),*) $(-> $result)? {
            self.inner.$name($($arg),*)
        }
    )* };
}

impl Backend for Watched {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn claimed_bytes(&self) -> usize {
        self.inner.claimed_bytes()
    }

    fn cache_bytes(&self) -> usize {
        self.inner.cache_bytes()
    }

    fn layer(&mut self, index: usize) {
        self.layer = index;
        self.inner.layer(index);
    }

    fn cache(&mut self, shape: CacheShape) -> Result<Cache> {
        if self.refused == Some(self.layer) {
            return Err(Error::Unsupported("such keys and values".into()));
        }
        self.inner.cache(shape)
    }

    fn cached(&self, cache: Cache, positions: usize, each: &mut dyn FnMut(&[u8])) {
        self.inner.cached(cache, positions, each);
    }

    fn swiglu(&mut self, gate: View, up: View) {
        self.inner.swiglu(gate, up);
        if self.counts.swiglus.fetch_add(1, Ordering::Relaxed) + 1 == self.spoiled {
            self.inner.scale(gate, 1.125);
        }
    }

    fn read(&mut self, x: View) -> Result<&[f32]> {
        if self.counts.reads.fetch_add(1, Ordering::Relaxed) + 1 == self.failing {
            return Err(Error::Device("the device was lost".into()));
        }
        self.inner.read(x)
    }

    forward! {
        vector(tensor: &Tensor) -> Result<Weight>;
        weight(experts: &[Tensor]) -> Result<Weight>;
        buffer(rows: usize, width: usize) -> Result<View>;
        rotary(shape: RotaryShape) -> Result<Rotary>;
        routing(rows: usize, used: usize) -> Result<Routing>;
        seal(rows: usize) -> Result<()>;
        restore(cache: Cache, positions: usize, fill: &mut dyn FnMut(&mut [u8]));
        write(out: View, values: &[f32]);
        embed(out: View, table: Weight, ids: &[u32]);
        matmul(out: View, w: Weight, x: View);
        copy(out: View, x: View);
        add(x: View, y: View);
        add_bias(x: View, bias: Weight);
        scale(x: View, factor: f32);
        scale_rows(x: View, gate: View);
        norm(out: View, x: View, norm: NormShape, group: usize);
        gelu(x: View);
        rope(x: View, heads: usize, rotary: Rotary, rows: &[Row]);
        store(cache: Cache, key: View, value: View, rows: &[Row]);
        attention(out: View, query: View, cache: Cache, scale: f32, rows: &[Row]);
        route(routing: Routing, scores: View, shape: RouteShape);
        matmul_experts(out: View, w: Weight, x: View, routing: Routing);
        scale_experts(x: View, factors: Weight, routing: Routing);
        combine(out: View, x: View, routing: Routing);
    }
}
