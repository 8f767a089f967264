from comfystream.session.progress import Rate


def test_nothing_is_claimed_before_there_are_two_samples():
    rate = Rate(total=10.0)
    assert (rate.per_second, rate.left_s) == (0.0, None)
    rate.add(0.0, 0, 0.0)
    assert (rate.per_second, rate.left_s) == (0.0, None)


def test_speed_and_time_left():
    rate = Rate(total=10.0)
    rate.add(100.0, 0, 0.0)
    rate.add(102.0, 60, 2.5)
    assert rate.per_second == 30.0
    assert rate.left_s == 6.0  # 7.5 s of media at 1.25 media seconds per second


def test_the_last_seconds_count_not_the_whole_run():
    rate = Rate(total=None)
    for second in range(20):
        rate.add(float(second), second * 10 if second < 10 else 100 + (second - 10) * 50, 0.0)
    assert rate.per_second == 50.0
    assert rate.left_s is None


def test_a_stall_has_no_time_left_and_the_end_none():
    rate = Rate(total=4.0)
    rate.add(0.0, 5, 1.0)
    rate.add(1.0, 5, 1.0)
    assert rate.left_s is None
    rate.add(2.0, 20, 5.0)
    assert rate.left_s == 0.0
