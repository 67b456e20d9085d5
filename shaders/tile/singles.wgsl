// Tiles of f32.

alias Number = f32;

fn choose_factors(row: u32, source: u32, lane: u32) {}

fn weight_factor(lane: u32) -> f32 {
    return 1.0;
}

fn input_factor(lane: u32) -> f32 {
    return 1.0;
}

fn unscaled(sum: f32, row: u32, column: u32) -> f32 {
    return sum;
}
