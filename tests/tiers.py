"""Tier of each test, by the fixtures that it uses, its module and its name.

A test without a tier belongs to ordinary edits. `conftest.py` turns the tiers into markers;
`pytest -m "not (ray or service or statistics or heavy or soak)"` leaves them out.
"""

from collections.abc import Iterable

# Each marker with the line that `pytest --markers` prints.
MARKERS = {
    "ray": "its module needs Ray itself; most start a real cluster",
    "service": "its module starts servers (MLflow, S3, a browser) or makes databases of MLflow",
    "statistics": "simulates hundreds of experiments with known truth",
    "heavy": "trains, or builds networks of real size",
    "soak": "kills, fills or cuts off what a sweep needs, and waits until it has recovered",
    "gpu": "needs a GPU",
}
ORDINARY = "not (ray or service or statistics or heavy or soak)"

OF_FIXTURE = {"cluster": "ray", "nodes": "ray", "s3": "service"}

# Modules that start something without a fixture, or whose tests take long for another reason.
OF_MODULE = {
    "test_end_to_end": ("ray",),
    "test_interrupt": ("ray",),
    "test_detached": ("ray",),
    "test_extending": ("ray",),
    "test_searched_sweep": ("ray",),
    "test_reproduce": ("ray",),
    "test_doctor": ("ray",),
    "test_cluster_files": ("ray",),
    "test_remake": ("ray",),
    "test_host_memory": ("ray",),
    "test_growing_cluster": ("ray",),
    "test_store_outages": ("ray", "soak"),
    "test_chaos": ("ray", "soak"),
    "test_disk_outages": ("ray", "soak"),
    "test_server_outages": ("ray", "service", "soak"),
    "test_shared_store": ("ray", "service"),
    "test_no_secret": ("ray", "service"),
    "test_mlflow_server": ("service",),
    "test_report_browser": ("service",),
    "test_gc": ("service",),
    "test_mirror": ("service",),
    "test_mirror_cache": ("service",),
    "test_backends": ("service",),
    "test_leases": ("service",),
    "test_bootstrap": ("statistics",),
    "test_power": ("statistics",),
    "test_seed_design": ("statistics",),
    "test_variance_study": ("statistics",),
    "test_processes": ("heavy",),
    "test_parallel": ("heavy",),
    "test_backbones": ("heavy",),
    "test_describe": ("heavy",),
    "test_reference_trial": ("heavy",),
    "test_bench_gpu": ("heavy",),
    "test_resnet38": ("heavy",),
    "test_report": ("heavy",),
    "test_contributing": ("heavy",),
    "test_contract": ("heavy",),
    "test_timm_features": ("heavy",),
    "test_plugin_sweep": ("ray",),
    "test_latex_compiles": ("heavy",),
    "test_database": ("service",),
    "test_writer": ("service",),
    "test_claim": ("service",),
    "test_bulk": ("service",),
    "test_attachments": ("service",),
    "test_refusals": ("service",),
    "test_views": ("service",),
    "test_imports": ("service",),
    "test_connection": ("ray",),
    "test_token_file": ("ray",),
    "test_main_sweeps": ("ray",),
    "test_study": ("statistics",),
    "test_losses": ("heavy",),
    "test_plugins": ("heavy",),
    "test_execute": ("heavy",),
}
OF_FUNCTION = {
    "test_manifest_above_any_sensible_size_is_no_artifact_and_is_not_read_whole": "service",
    "test_trials_of_one_cgnet_are_no_independent_witnesses_of_lambda": "statistics",
    "test_95_percent_of_the_intervals_hold_the_truth_when_variants_are_drawn": "statistics",
    "test_two_attempts_at_once_give_one_artifact_and_do_not_share_their_scratch": "heavy",
    "test_what_killed_attempts_left_goes_with_the_next_one_but_not_what_a_live_one_has": "heavy",
    "test_all_text_lies_within_the_figure_and_fits_a_column": "heavy",
    "test_command_prints_the_table_and_nothing_else": "heavy",
    "test_best_mean_is_bold_on_a_terminal_and_without_codes_in_a_pipe": "heavy",
    "test_server_that_does_not_answer_fails_within_seconds": "heavy",
    "test_server_that_does_not_answer_is_an_error_within_seconds": "heavy",
    "test_help_imports_no_library_and_table_imports_no_statistics": "heavy",
    "test_no_command_imports_the_method_or_the_platform": "heavy",
    "test_variants_of_the_pipeline_run": "heavy",
    "test_killed_run_goes_on_from_its_checkpoint_to_the_same_weights": "heavy",
    "test_more_members_than_a_plain_zip_can_list": "heavy",
    "test_threads_read_the_code_of_stages_at_the_same_time": "heavy",
}


def tiers(module: str, function: str, fixtures: Iterable[str]) -> set[str]:
    """The markers of one test: `function` is its name without parameters."""
    found = {OF_FIXTURE[fixture] for fixture in fixtures if fixture in OF_FIXTURE}
    found |= set(OF_MODULE.get(module, ()))
    if function in OF_FUNCTION:
        found.add(OF_FUNCTION[function])
    return found
