//! Rows with targets, printed at the end.

/// What a figure must be.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// At least this.
    Least(f64),
    /// At most this.
    Most(f64),
    /// Nothing: the figure is there to be read.
    None,
}

/// All rows of a run.
#[derive(Debug, Default)]
pub struct Table(Vec<Row>);

#[derive(Debug)]
struct Row {
    what: String,
    figure: f64,
    unit: &'static str,
    target: Target,
}

impl Target {
    fn is_met(self, figure: f64) -> bool {
        match self {
            Self::Least(least) => figure >= least,
            Self::Most(most) => figure <= most,
            // A NaN is met by nothing else, as it should be.
            Self::None => true,
        }
    }
}

impl Table {
    /// Adds a row.
    pub fn row(&mut self, what: impl Into<String>, figure: f64, unit: &'static str, target: Target) {
        self.0.push(Row { what: what.into(), figure, unit, target });
    }

    /// Prints it; whether all targets were met.
    pub fn print(&self) -> bool {
        println!("\n{:<78} {:>10} {:<8} {:>10}", "", "measured", "", "target");
        let mut missed = 0;
        for Row { what, figure, unit, target } in &self.0 {
            let wanted = match target {
                Target::Least(least) => format!("≥ {least}"),
                Target::Most(most) => format!("≤ {most}"),
                Target::None => String::new(),
            };
            let verdict = match target {
                Target::None => "",
                _ if target.is_met(*figure) => "OK",
                _ => "MISSED",
            };
            missed += usize::from(!target.is_met(*figure));
            println!("{what:<78} {:>10} {unit:<8} {wanted:>10}  {verdict}", number(*figure));
        }
        println!("\n{}", if missed == 0 { "all targets met".to_owned() } else { format!("{missed} targets MISSED") });
        missed == 0
    }
}

fn number(figure: f64) -> String {
    match figure {
        figure if figure.fract() == 0.0 => format!("{figure:.0}"),
        figure if figure >= 100.0 => format!("{figure:.0}"),
        figure if figure >= 10.0 => format!("{figure:.1}"),
        figure => format!("{figure:.2}"),
    }
}

/// The middle one; NaN of none.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => figures[middle],
        _ => f64::midpoint(figures[middle - 1], figures[middle]),
    }
}
