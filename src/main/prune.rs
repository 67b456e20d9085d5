//! `attar prune`: a model without what it can do without.

use super::data::{DataArgs, watched};
use super::{model, terminal};
use attar::compress::prune::{
    Pruned, PrunedTensor, Ranking, Request, Shape, Share, VocabSize, choose, drop_by_influence,
    drop_by_loss, keep_tokens, write_pruned,
};
use attar::compress::{Measure, Measured, Sequences, TokenMap, observe};
use attar::memory::Shared;
use attar::{Error, Gguf, Result};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::AtomicBool;

/// Cut tokens, layers, heads, neurons or experts out of a model
#[derive(clap::Args)]
#[command(after_help = "Examples:
  attar prune model.gguf --vocab used --data text.txt -o small.gguf
  attar prune model.gguf --ffn 0.75 --kv-groups 3 --data self --report -o small.gguf
  attar prune model.gguf --drop 3,7 -o small.gguf
What is worth least goes, by what the model does on --data. Numbers say what remains: N of them, or a part
of them such as 0.75, of widths to the nearest multiple of 32. In rising order of harm: unused tokens, groups of
heads, neurons, layers, and columns of the residual stream, which harm by far the most. `attar distill` repairs.
Layers of one width stay what they are; --uneven writes the architecture with widths of their own. The file
appears when it is whole.")]
pub(crate) struct Args {
    /// A GGUF file
    model: PathBuf,
    /// Where to write
    #[arg(long, short, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    /// Tokens to keep: those `used` in --data, the N most frequent, or those that make up a part of it,
    /// such as 0.999; always with what they are merged from, special tokens, and what spells ASCII
    #[arg(long, value_name = "N|used|PART")]
    vocab: Option<Vocab>,
    /// Keep the tokens of all bytes, so that any text can be spelt
    #[arg(long, requires = "vocab")]
    all_bytes: bool,
    /// Layers to drop, counted from 0
    #[arg(long, value_name = "LAYER,...", value_delimiter = ',', conflicts_with = "layers")]
    drop: Vec<usize>,
    /// Layers to keep
    #[arg(long, value_name = "N|PART")]
    layers: Option<Amount>,
    /// How --layers chooses
    #[arg(long, value_enum, default_value_t = LayersBy::Influence)]
    layers_by: LayersBy,
    /// Neurons of each feed-forward block, or of each expert, to keep
    #[arg(long, value_name = "N|PART")]
    ffn: Option<Amount>,
    /// Groups of heads with common keys and values to keep in each layer
    #[arg(long, value_name = "N|PART")]
    kv_groups: Option<Amount>,
    /// Experts of each layer to keep
    #[arg(long, value_name = "N|PART")]
    experts: Option<Amount>,
    /// Columns of the residual stream to keep
    #[arg(long, value_name = "N|PART")]
    embd: Option<Amount>,
    /// Let layers differ: as many neurons and groups in all, but where they are worth most
    #[arg(long)]
    uneven: bool,
    /// Cut more than half
    #[arg(long)]
    force: bool,
    /// Measure the result beside the model, on --data
    #[arg(long)]
    report: bool,
    /// Threads [default: one a core]
    #[arg(long, short, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--layers` goes by.
#[derive(Clone, Copy, clap::ValueEnum)]
enum LayersBy {
    /// How much each layer changes what passes through it.
    Influence,
    /// The loss without it, one layer after another; slow.
    Loss,
}

/// A count or a part.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Amount(Share);

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = text.parse().ok().filter(|count| *count > 0).map(Share::Count);
        let part = || text.parse().ok().filter(|part| (1e-9..1.0).contains(part)).map(Share::Part);
        count
            .or_else(part)
            .map(Self)
            .ok_or_else(|| "expected a count from 1 or a part below 1".into())
    }
}

/// What `--vocab` says.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Vocab(VocabSize);

impl FromStr for Vocab {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("used", _) => Ok(Self(VocabSize::Used)),
            (_, Ok(Amount(Share::Count(count)))) => Ok(Self(VocabSize::Count(count))),
            (_, Ok(Amount(Share::Part(part)))) => Ok(Self(VocabSize::Coverage(part))),
            (_, Err(_)) => Err("expected used, a count from 1 or a part below 1".into()),
        }
    }
}

/// Shares of parameters, the input table and the head not counted, from which a cut wants a word of
/// warning or of force: beyond, repair costs more than doing it in steps (arXiv 2407.14679).
const WARNED: f64 = 1.0 / 3.0;
const REFUSED: f64 = 0.5;

pub(crate) fn run(args: &Args) -> Result<()> {
    let gguf = model::open(Some(&args.model))?;
    let shape = Shape::of(&gguf)?;
    let threads = model::threads(args.threads);
    let stop = Shared::new(AtomicBool::new(false))?;
    terminal::cancel_on_interrupt(stop.clone())?;
    let sequences = match args.needs_data() {
        true => Some(args.data.sequences(&gguf, threads, &stop)?),
        false => None,
    };
    let work = Work { args, gguf: &gguf, shape: &shape, threads, stop: &stop };
    let request = work.request(sequences.as_ref())?;
    let cut = choose(&shape, &request.1, &request.0)?;
    check_size(&Pruned::plan(&gguf, &shape, &cut)?, args.force)?;
    let bar = terminal::progress(gguf.tensors().len() as u64, "tensors");
    let pruned = write_pruned(&gguf, &shape, &cut, &args.output, &mut |_| bar.inc(1))?;
    bar.finish_and_clear();
    warn(&pruned.tensors);
    let measured = match &sequences {
        Some(sequences) if args.report => Some(work.measure(sequences)?),
        _ => None,
    };
    match args.json {
        true => terminal::print_json(&work.json(&request.0, &pruned, measured.as_ref())),
        false => terminal::print(work.table(&request.0, &pruned, measured.as_ref()).as_bytes()),
    }
}

fn check_size(planned: &Pruned, force: bool) -> Result<()> {
    let share = planned.cut_share();
    let percent = (share * 100.0).round();
    if share > REFUSED && !force {
        return Err(Error::Invalid(
            format!(
                "{percent} % of the layers' parameters would go, more than half: prune, distil and prune \
                 again, or say --force"
            )
            .into(),
        ));
    }
    if share > WARNED {
        log::warn!("{percent} % of the layers' parameters go: in two steps less is lost");
    }
    Ok(())
}

/// One warning for what had to be rounded anew, not one a tensor.
fn warn(tensors: &[PrunedTensor]) {
    let rounded: Vec<_> = tensors.iter().filter(|tensor| tensor.rounded).collect();
    let mut said: Vec<(&str, &str)> = Vec::new();
    for tensor in &rounded {
        let (from, to) = (tensor.from.name, tensor.to.name);
        if said.contains(&(from, to)) {
            continue;
        }
        said.push((from, to));
        let count = rounded.iter().filter(|t| (t.from.name, t.to.name) == (from, to)).count();
        match from == to {
            true => log::warn!("{count} tensors are cut through blocks of {from}: rounded anew"),
            false => log::warn!(
                "{count} tensors have rows no multiple of {from}'s block: written as {to}"
            ),
        }
    }
}

impl Args {
    fn needs_data(&self) -> bool {
        let ranked = [self.layers, self.ffn, self.kv_groups, self.experts, self.embd];
        self.report || self.vocab.is_some() || ranked.iter().any(Option::is_some)
    }
}

struct Work<'a> {
    args: &'a Args,
    gguf: &'a Gguf,
    shape: &'a Shape,
    threads: usize,
    stop: &'a Shared<AtomicBool>,
}

impl Work<'_> {
    fn request(&self, sequences: Option<&Sequences>) -> Result<(Request, Ranking)> {
        let Self { args, gguf, shape, .. } = *self;
        let share = |amount: Option<Amount>| amount.map(|amount| amount.0);
        let mut request = Request {
            dropped: args.drop.clone(),
            hidden: share(args.ffn),
            groups: share(args.kv_groups),
            experts: share(args.experts),
            width: share(args.embd),
            uneven: args.uneven,
            ..Request::default()
        };
        let nothing = Ranking { width: Vec::new(), layers: Vec::new() };
        let Some(sequences) = sequences else { return Ok((request, nothing)) };
        if let Some(Vocab(size)) = args.vocab {
            request.tokens = Some(keep_tokens(gguf, sequences, size, args.all_bytes)?);
        }
        let seen = watched(sequences.tokens(), "tokens watched", self.stop, |progress| {
            observe(gguf, sequences, self.threads, progress)
        })?;
        let ranking = Ranking::new(gguf, shape, &seen)?;
        if let Some(Amount(share)) = args.layers {
            request.dropped = self.drop_layers(share, &ranking, sequences)?;
        }
        Ok((request, ranking))
    }

    fn drop_layers(&self, keep: Share, ranking: &Ranking, text: &Sequences) -> Result<Vec<usize>> {
        let count = self.shape.layers.len();
        let keep = match keep {
            Share::Count(keep) => keep,
            Share::Part(part) => ((part * count as f64).round() as usize).max(1),
        };
        let Some(drop) = count.checked_sub(keep) else {
            return Err(Error::Invalid(format!("--layers {keep} of {count}").into()));
        };
        match self.args.layers_by {
            LayersBy::Influence => Ok(drop_by_influence(ranking, drop)),
            LayersBy::Loss => {
                let tries: usize = (0..drop).map(|dropped| count - dropped).sum();
                let tokens = tries * text.tokens();
                let dropped = watched(tokens, "tokens without a layer", self.stop, |progress| {
                    drop_by_loss(self.gguf, self.shape, drop, text, self.threads, progress)
                })?;
                Ok(dropped.into_iter().map(|(layer, _)| layer).collect())
            }
        }
    }

    /// The result beside the model, on what of the data its vocabulary can say.
    fn measure(&self, sequences: &Sequences) -> Result<Measured> {
        let result = Gguf::open(&self.args.output)?;
        let sequences = TokenMap::new(&result, self.gguf)?.translate(sequences);
        watched(sequences.tokens(), "tokens measured", self.stop, |progress| {
            let measure = Measure::on_threads(self.threads);
            measure.run(&result, Some(self.gguf), &sequences, progress)
        })
    }

    fn json(&self, request: &Request, pruned: &Pruned, measured: Option<&Measured>) -> Value {
        let tensors = pruned.tensors.iter().map(|t| {
            json!({"name": t.name, "dims": t.dims, "from": t.from.name, "to": t.to.name,
                   "rounded": t.rounded})
        });
        let measured = measured.map(|m| {
            let divergence = m.divergence.as_ref();
            json!({"tokens": m.tokens, "perplexity": m.nll.exp().mean,
                   "reference_perplexity": divergence.map(|d| d.reference_nll.exp().mean),
                   "kl": divergence.map(|d| d.kl.mean), "kl_error": divergence.map(|d| d.kl.error),
                   "same_top": divergence.map(|d| d.same_top)})
        });
        json!({
            "architecture": pruned.family,
            "parameters_before": pruned.parameters.0,
            "parameters": pruned.parameters.1,
            "tensor_bytes_before": pruned.bytes.0,
            "tensor_bytes": pruned.bytes.1,
            "cut_share": pruned.cut_share(),
            "vocab_size": request.tokens.as_ref().map_or(self.shape.vocab_len, Vec::len),
            "dropped_layers": request.dropped,
            "measured": measured,
            "tensors": tensors.collect::<Vec<_>>(),
        })
    }

    fn table(&self, request: &Request, pruned: &Pruned, measured: Option<&Measured>) -> String {
        let Pruned { parameters, bytes, .. } = pruned;
        let mut lines = vec![
            format!("{} ({})", self.args.output.display(), pruned.family),
            format!("  parameters    {:>12} of {}", parameters.1, parameters.0),
            format!("  tensor bytes  {:>12} of {}", bytes.1, bytes.0),
        ];
        if let Some(tokens) = &request.tokens {
            lines.push(format!("  tokens        {:>12} of {}", tokens.len(), self.shape.vocab_len));
        }
        if !request.dropped.is_empty() {
            let dropped: Vec<_> = request.dropped.iter().map(usize::to_string).collect();
            lines.push(format!("  without layers {}", dropped.join(", ")));
        }
        if let Some((m, d)) = measured.and_then(|m| Some((m, m.divergence.as_ref()?))) {
            let (own, was) = (m.nll.exp(), d.reference_nll.exp());
            lines.push(format!(
                "  perplexity    {:>12.4} was {:.4}, {} tokens",
                own.mean, was.mean, m.tokens
            ));
            lines.push(format!("  KL divergence {:>12.4} +- {:.4}", d.kl.mean, d.kl.error));
            lines.push(format!("  same top      {:>10.1} %", d.same_top * 100.0));
        }
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_counts_or_parts() {
        let amount = |text: &str| text.parse::<Amount>().ok().map(|amount| amount.0);
        assert_eq!(amount("128"), Some(Share::Count(128)));
        assert_eq!(amount("0.75"), Some(Share::Part(0.75)));
        for wrong in ["0", "-1", "1.0", "1.5", "nan", "inf", "", "x"] {
            assert_eq!(amount(wrong), None, "{wrong}");
        }
        let vocab = |text: &str| text.parse::<Vocab>().ok().map(|vocab| vocab.0);
        assert_eq!(vocab("used"), Some(VocabSize::Used));
        assert_eq!(vocab("4096"), Some(VocabSize::Count(4096)));
        assert_eq!(vocab("0.999"), Some(VocabSize::Coverage(0.999)));
    }
}
