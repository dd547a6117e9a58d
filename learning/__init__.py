"""The ground floor: data sets, models, training, triggers, input attacks and metrics."""
