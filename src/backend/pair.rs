//! What backends over other devices share: handles of their own for those of each device, and all
//! operations in one table.

use super::{
    Backend, Buffer, Cache, NormShape, Rotary, RotaryShape, RouteShape, Routing, Row, View, Weight,
};
use crate::Result;
use crate::memory;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// A device and its handles.
pub(super) struct Device {
    pub(super) backend: Box<dyn Backend>,
    pub(super) handles: Handles,
}

/// The device's handle of each handle handed out; none where it does not hold the thing.
#[derive(Default)]
pub(super) struct Handles {
    weights: Vec<Option<Weight>>,
    caches: Vec<Option<Cache>>,
    routings: Vec<Option<Routing>>,
    rotaries: Vec<Option<Rotary>>,
    /// In whole.
    buffers: Vec<Option<View>>,
}

impl Device {
    pub(super) fn new(backend: Box<dyn Backend>) -> Self {
        Self { backend, handles: Handles::default() }
    }

    /// The rows of a view, in whole.
    pub(super) fn read(&mut self, view: View) -> Result<&[f32]> {
        self.backend.read(self.handles.rows(view))
    }
}

impl Handles {
    fn whole(&self, buffer: Buffer) -> View {
        let Some(view) = self.buffers[buffer.0 as usize] else {
            unreachable!("every device holds every buffer")
        };
        view
    }

    /// The rows of a view, in whole.
    pub(super) fn rows(&self, view: View) -> View {
        View { row: view.row, rows: view.rows, ..self.whole(view.buffer) }
    }
}

/// Calls `take` for those of the devices that shall hold what is loaded; a handle for all of it.
pub(super) fn load<T: Handle>(
    devices: &mut [Device],
    held: &[bool],
    take: &dyn Fn(&mut dyn Backend) -> Result<T>,
) -> Result<T> {
    let mut own = None;
    for (device, held) in devices.iter_mut().zip(held) {
        let handle = if *held { Some(take(&mut *device.backend)?) } else { None };
        let table = T::table(&mut device.handles);
        own = own.or(handle.map(|handle| handle.numbered(table.len() as u32)));
        memory::push(table, handle)?;
    }
    let Some(own) = own else { unreachable!("some device holds it") };
    Ok(own)
}

/// The same rotation again.
pub(super) fn copy(shape: &RotaryShape) -> Result<RotaryShape> {
    let frequencies = memory::collect(shape.frequencies.iter().copied())?;
    Ok(RotaryShape { frequencies, ..*shape })
}

/// What loading gives.
pub(super) trait Handle: Copy {
    fn table(handles: &mut Handles) -> &mut Vec<Option<Self>>;
    fn numbered(self, n: u32) -> Self;
}

/// What an operation is given.
pub(super) trait Operand {
    /// The same in a device's handles.
    fn on(&self, device: &Handles) -> Self
    where
        Self: Sized;

    /// Whether a device has it.
    fn held(&self, _device: &Handles) -> bool {
        true
    }

    /// Itself, if it is a weight.
    fn weight(&self) -> Option<Weight> {
        None
    }

    /// Itself, if it is a routing.
    fn routing(&self) -> Option<Routing> {
        None
    }

    /// Itself, if it says how experts are chosen.
    fn route(&self) -> Option<RouteShape> {
        None
    }
}

macro_rules! handles {
    ($($type:ident, $table:ident $(, $itself:ident)?;)*) => { $(
        impl Handle for $type {
            fn table(handles: &mut Handles) -> &mut Vec<Option<Self>> {
                &mut handles.$table
            }

            fn numbered(self, n: u32) -> Self {
                Self(n)
            }
        }

        impl Operand for $type {
            fn on(&self, device: &Handles) -> Self {
                let Some(own) = device.$table[self.0 as usize] else {
                    unreachable!("operations run where their operands are held")
                };
                own
            }

            fn held(&self, device: &Handles) -> bool {
                device.$table[self.0 as usize].is_some()
            }
            $(
                fn $itself(&self) -> Option<$type> {
                    Some(*self)
                }
            )?
        }
    )* };
}
handles! {
    Weight, weights, weight;
    Cache, caches;
    Routing, routings, routing;
    Rotary, rotaries;
}

impl Handle for View {
    fn table(handles: &mut Handles) -> &mut Vec<Option<Self>> {
        &mut handles.buffers
    }

    fn numbered(self, n: u32) -> Self {
        Self { buffer: Buffer(n), ..self }
    }
}

impl Operand for View {
    fn on(&self, device: &Handles) -> Self {
        Self { buffer: device.whole(self.buffer).buffer, ..*self }
    }
}

impl Operand for NormShape {
    fn on(&self, device: &Handles) -> Self {
        Self { weight: self.weight.map(|weight| weight.on(device)), ..*self }
    }

    fn held(&self, device: &Handles) -> bool {
        self.weight.is_none_or(|weight| weight.held(device))
    }
}

impl Operand for RouteShape {
    fn on(&self, _device: &Handles) -> Self {
        *self
    }

    fn route(&self) -> Option<RouteShape> {
        Some(*self)
    }
}

/// What is no handle.
macro_rules! plain {
    ($($type:ty),*) => { $(
        impl Operand for $type {
            fn on(&self, _device: &Handles) -> Self {
                *self
            }
        }
    )* };
}
plain!(f32, usize, &[u32], &[f32], &[Row]);

/// Loading methods of a backend that has `load(&mut self, &dyn Fn(&mut dyn Backend) -> Result<T>) -> Result<T>`,
/// by their names.
macro_rules! loads {
    (@ vector) => {
        fn vector(&mut self, tensor: &Tensor) -> Result<Weight> {
            self.load(&|backend| backend.vector(tensor))
        }
    };
    (@ weight) => {
        fn weight(&mut self, experts: &[Tensor]) -> Result<Weight> {
            self.load(&|backend| backend.weight(experts))
        }
    };
    (@ buffer) => {
        fn buffer(&mut self, rows: usize, width: usize) -> Result<View> {
            self.load(&|backend| backend.buffer(rows, width))
        }
    };
    (@ cache) => {
        fn cache(&mut self, shape: CacheShape) -> Result<Cache> {
            self.load(&|backend| backend.cache(shape))
        }
    };
    (@ rotary) => {
        fn rotary(&mut self, shape: RotaryShape) -> Result<Rotary> {
            self.load(&|backend| backend.rotary($crate::backend::pair::copy(&shape)?))
        }
    };
    (@ routing) => {
        fn routing(&mut self, rows: usize, used: usize) -> Result<Routing> {
            self.load(&|backend| backend.routing(rows, used))
        }
    };
    ($($name:ident)*) => { $( $crate::backend::pair::loads!(@ $name); )* };
}
pub(super) use loads;

/// One call of an operation.
pub(super) struct Operation<'a> {
    pub(super) name: &'static str,
    /// The view that is written, if any.
    pub(super) out: Option<View>,
    /// Whether what is written there is a result, the same on every device.
    pub(super) results: bool,
    /// The views that are read.
    pub(super) reads: &'a [View],
    /// All it is given.
    pub(super) operands: &'a [&'a dyn Operand],
}

impl Operation<'_> {
    /// Whether a device holds all that the operation needs, buffers aside.
    pub(super) fn can_run_on(&self, device: &Device) -> bool {
        self.operands.iter().all(|operand| operand.held(&device.handles))
    }

    /// What one of the operands is, if it is that.
    pub(super) fn find<T>(&self, is: impl Fn(&dyn Operand) -> Option<T>) -> Option<T> {
        self.operands.iter().find_map(|operand| is(*operand))
    }
}

/// The operations of a backend that has `run(&mut self, &Operation, &dyn Fn(&mut Device))`: what each is
/// given, what it writes `<-` what it reads. A router may leave anything in the scores it has read.
macro_rules! operations {
    () => {
        $crate::backend::pair::operations! {
            write(out: View, values: &[f32]), out <- [];
            embed(out: View, table: Weight, ids: &[u32]), out <- [];
            matmul(out: View, w: Weight, x: View), out <- [x];
            copy(out: View, x: View), out <- [x];
            add(x: View, y: View), x <- [x, y];
            add_bias(x: View, bias: Weight), x <- [x];
            scale(x: View, factor: f32), x <- [x];
            scale_rows(x: View, gate: View), x <- [x, gate];
            norm(out: View, x: View, norm: NormShape, group: usize), out <- [x];
            gelu(x: View), x <- [x];
            swiglu(gate: View, up: View), gate <- [gate, up];
            rope(x: View, heads: usize, rotary: Rotary, rows: &[Row]), x <- [x];
            store(cache: Cache, key: View, value: View, rows: &[Row]), none <- [key, value];
            attention(out: View, query: View, cache: Cache, scale: f32, rows: &[Row]), out <- [query];
            route(routing: Routing, scores: View, shape: RouteShape), left scores <- [scores];
            matmul_experts(out: View, w: Weight, x: View, routing: Routing), out <- [x];
            scale_experts(x: View, factors: Weight, routing: Routing), x <- [x];
            combine(out: View, x: View, routing: Routing), out <- [x];
        }
    };
    ($($name:ident($($arg:ident: $type:ty),*), $($out:ident)+ <- [$($read:ident),*];)*) => { $(
        fn $name(&mut self, $($arg: $type),*) {
            let (out, results) = $crate::backend::pair::operations!(@out $($out)+);
            let operation = Operation {
                name: stringify!($name),
                out,
                results,
                reads: &[$($read),*],
                operands: &[$(&$arg),*],
            };
            self.run(&operation, &|device| {
                device.backend.$name($($arg.on(&device.handles)),*);
            });
        }
    )* };
    (@out none) => { (None, false) };
    (@out left $out:ident) => { (Some($out), false) };
    (@out $out:ident) => { (Some($out), true) };
}
pub(super) use operations;
