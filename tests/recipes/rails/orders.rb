# An application with Active Record. Each line on its input is a round of twenty threads, each with a session of its own.
require "active_record"
require "yaml"
require_relative "postgresql"

SESSIONS = 20
ORDERS = 10

class Order < ActiveRecord::Base
end

# All at work at one time, so that each has a session.
class Everybody
  def initialize(count)
    @count, @there, @lock, @changed = count, 0, Mutex.new, ConditionVariable.new
  end

  def wait
    @lock.synchronize do
      @there += 1
      @there == @count ? @changed.broadcast : @changed.wait(@lock)
    end
  end
end

# What a thread of a web server does with some requests.
def work(session, everybody)
  ActiveRecord::Base.connection_pool.with_connection do
    everybody.wait
    (0...ORDERS).count do |number|
      Order.transaction do
        made = Order.create!(session: session, number: number)
        found = Order.find(made.id)
        [found.session, found.number] == [session, number]
      end
    end
  end
end

def round
  everybody = Everybody.new(SESSIONS)
  SESSIONS.times.map { |session| Thread.new { work(session, everybody) } }.sum(&:value)
end

$stdout.sync = true
Thread.report_on_exception = true
ActiveRecord::Migration.verbose = false
ActiveRecord::Base.establish_connection(YAML.load_file("database.yml").fetch("production"))
ActiveRecord::MigrationContext.new("db/migrate", ActiveRecord::SchemaMigration).migrate
# As `rails db:migrate` does, which is a process of its own: its lock would keep the connection.
ActiveRecord::Base.connection_pool.disconnect!
puts "ready"
$stdin.each_line { puts round }
